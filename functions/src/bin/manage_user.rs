//! The Lambda function `manage_user`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::manage_user::FUNCTION)
}
