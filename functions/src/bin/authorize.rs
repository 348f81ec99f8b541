//! The Lambda function `authorize`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::authorize::FUNCTION)
}
