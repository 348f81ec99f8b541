//! The Lambda function `accept_invite`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::accept_invite::FUNCTION)
}
