//! The Lambda function `notification`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::notification::FUNCTION)
}
