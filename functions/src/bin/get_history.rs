//! The Lambda function `get_history`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::get_history::FUNCTION)
}
