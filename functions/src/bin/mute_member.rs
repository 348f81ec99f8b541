//! The Lambda function `mute_member`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::mute_member::FUNCTION)
}
