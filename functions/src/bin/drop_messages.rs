//! The Lambda function `drop_messages`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::drop_messages::FUNCTION)
}
