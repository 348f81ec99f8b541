//! The Lambda function `connect`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::connect::FUNCTION)
}
