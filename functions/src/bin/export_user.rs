//! The Lambda function `export_user`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::export_user::FUNCTION)
}
