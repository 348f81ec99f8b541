//! The Lambda function `disconnect`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::disconnect::FUNCTION)
}
