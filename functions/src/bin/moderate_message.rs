//! The Lambda function `moderate_message`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::moderate_message::FUNCTION)
}
