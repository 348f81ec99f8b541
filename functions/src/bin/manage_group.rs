//! The Lambda function `manage_group`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::manage_group::FUNCTION)
}
