//! The Lambda function `get_group`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::get_group::FUNCTION)
}
