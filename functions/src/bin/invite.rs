//! The Lambda function `invite`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::invite::FUNCTION)
}
