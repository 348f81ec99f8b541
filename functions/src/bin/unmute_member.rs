//! The Lambda function `unmute_member`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::unmute_member::FUNCTION)
}
