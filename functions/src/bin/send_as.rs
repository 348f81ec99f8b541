//! The Lambda function `send_as`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::send_as::FUNCTION)
}
