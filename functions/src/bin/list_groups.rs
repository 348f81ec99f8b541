//! The Lambda function `list_groups`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::list_groups::FUNCTION)
}
