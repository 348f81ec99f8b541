//! The Lambda function `send_message`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::send_message::FUNCTION)
}
