//! The Lambda function `list_conversations`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::list_conversations::FUNCTION)
}
