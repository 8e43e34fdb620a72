//! A guest: its tasks run in a sandbox, each call in a fresh instance.

use stockade_guest::task;

/// Greets `name`, as often as `times` says.
///
/// Arguments and results are whatever serde can carry. An `Err` fails this one task and reaches its
/// caller as text.
#[task]
fn greet(name: String, times: u32) -> Result<String, String> {
    if times == 0 {
        return Err(format!("no greeting for {name}"));
    }
    Ok(vec![format!("hello, {name}"); times as usize].join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade_guest::testing::{Call, Status, export_of};

    #[test]
    fn everybody_is_greeted() {
        assert_eq!(greet("world".into(), 1).as_deref(), Ok("hello, world"));
    }

    /// As the host calls it: arguments arrive as JSON here, and errors leave as text.
    #[test]
    fn no_greeting_is_an_error_of_the_task() {
        let call = Call::json(r#"{"args": ["world"], "kwargs": {"times": 0}}"#);
        let outcome = call.run(export_of!(greet));
        assert_eq!(outcome.status, Status::Error);
        assert_eq!(outcome.error_message(), "no greeting for world");
    }
}
