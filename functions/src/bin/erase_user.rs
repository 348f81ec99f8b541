//! The Lambda function `erase_user`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::erase_user::FUNCTION)
}
