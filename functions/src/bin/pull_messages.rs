//! The Lambda function `pull_messages`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::pull_messages::FUNCTION)
}
