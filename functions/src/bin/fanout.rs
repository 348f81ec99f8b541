//! The Lambda function `fanout`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::fanout::FUNCTION)
}
