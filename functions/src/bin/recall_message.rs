//! The Lambda function `recall_message`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::recall_message::FUNCTION)
}
