//! The Lambda function `message`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::message::FUNCTION)
}
