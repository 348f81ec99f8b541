//! The Lambda function `leave_group`.

fn main() -> std::process::ExitCode {
    functions::serve(&functions::leave_group::FUNCTION)
}
