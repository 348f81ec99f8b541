//! The Lambda function `decline_invite`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::decline_invite::FUNCTION)
}
