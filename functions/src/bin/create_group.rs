//! The Lambda function `create_group`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::create_group::FUNCTION)
}
