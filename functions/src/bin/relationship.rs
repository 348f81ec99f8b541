//! The Lambda function `relationship`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::relationship::FUNCTION)
}
