//! The Lambda function `rename_group`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::rename_group::FUNCTION)
}
