//! The Lambda function `typing`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::typing::FUNCTION)
}
