//! The Lambda function `list_invites`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::list_invites::FUNCTION)
}
