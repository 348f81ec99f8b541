//! The Lambda function `mark_read`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::mark_read::FUNCTION)
}
