//! Conversations with stand-ins: a process that only lives until it is told, and a socket whose other end
//! the test holds.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use stockade_wire::frame::{encode_inline, out_of_line_header};
use stockade_wire::{Confinement, Namespaces};

use super::*;
use crate::base::deadline::after;

const LONG: Duration = Duration::from_secs(60);

const ANSWER_BYTES_MAX: usize = 4 << 10;

/// The other side of a conversation.
struct StandIn {
    socket: UnixStream,
    /// While this is open the process lives.
    life: ChildStdin,
}

impl StandIn {
    /// Sends the frame of `answer`.
    fn answers(&mut self, answer: &str) {
        self.sends(&frame(answer));
    }

    fn sends(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends a frame of `bytes` bytes with so many descriptors.
    fn sends_descriptors(&self, bytes: usize, count: usize) {
        let file = File::open("/dev/null").unwrap();
        let all = vec![file.as_fd(); count];
        let mut sender = Sender::new(self.socket.try_clone().unwrap());
        sender.try_send(&"x".repeat(bytes), &all).unwrap();
    }

    /// Ends by itself, and hangs up by that.
    fn ends(self, conversation: &mut Conversation) {
        drop(self.life);
        assert!(conversation.child.ends_within(LONG));
    }
}

#[expect(clippy::zombie_processes, reason = "the conversation waits for it")]
fn conversation_with(allowance: MemoryAllowance) -> (Conversation, StandIn) {
    let cat = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut cat = cat.unwrap();
    let life = cat.stdin.take().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&cat), PidfdFlags::empty()).unwrap();
    let host = Namespaces::of_this_process();
    let child = Child::adopt(pidfd, host.user).unwrap();
    let (socket, theirs) = UnixStream::pair().unwrap();
    let confinement = Confinement { host, ..Confinement::default() };
    let process = Process { child, socket, confinement };
    let conversation = Conversation::with(process, allowance, ANSWER_BYTES_MAX).unwrap();
    (conversation, StandIn { socket: theirs, life })
}

fn conversation() -> (Conversation, StandIn) {
    conversation_with(MemoryAllowance::of(u64::MAX))
}

fn frame(answer: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_inline(&answer.to_owned(), &mut frame).unwrap();
    frame
}

fn receive(conversation: &mut Conversation) -> Result<String, NoAnswer> {
    conversation.receive(after(LONG))
}

/// Why what the process has sent is no answer.
fn unusable(sent: &[u8]) -> FrameError {
    let (mut conversation, mut stand_in) = conversation();
    stand_in.sends(sent);
    let error = match receive(&mut conversation) {
        Err(NoAnswer::Unusable(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(conversation.child.has_ended(), "nothing more is wanted of it");
    error
}

#[test]
fn answers_come_in_the_order_in_which_they_were_sent() {
    let (mut conversation, mut stand_in) = conversation();
    assert!(!conversation.has_spoken());
    // The second is read together with the first.
    stand_in.sends(&[frame("one"), frame("two")].concat());
    assert!(conversation.has_spoken());
    assert_eq!(receive(&mut conversation).unwrap(), "one");
    assert!(conversation.has_spoken());
    assert_eq!(receive(&mut conversation).unwrap(), "two");
    assert!(!conversation.has_spoken());
    assert!(!conversation.child.has_ended());
}

#[test]
fn an_answer_after_the_deadline_is_late() {
    for sent in [&b""[..], &frame("late")[..3]] {
        let (mut conversation, mut stand_in) = conversation();
        stand_in.sends(sent);
        let late = conversation.receive::<String>(after(Duration::from_millis(1)));
        assert!(matches!(late, Err(NoAnswer::Late { processor_time: Some(_) })), "{late:?}");
        assert!(conversation.child.has_ended());
        // Nothing is heard afterwards.
        stand_in.answers("late");
        assert_eq!(conversation.child.wait().signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn a_deadline_that_has_passed_is_late_at_once() {
    let (mut conversation, mut stand_in) = conversation();
    stand_in.answers("in the socket");
    let late = conversation.receive::<String>(after(Duration::ZERO));
    assert!(matches!(late, Err(NoAnswer::Late { .. })), "{late:?}");
}

#[test]
fn a_deadline_too_long_for_the_clock_never_comes() {
    let (mut conversation, mut stand_in) = conversation();
    stand_in.answers("yes");
    assert_eq!(conversation.receive::<String>(after(Duration::MAX)).unwrap(), "yes");
}

#[test]
fn what_is_no_answer_is_unusable() {
    // A string that claims to be longer than its frame, and one that is no UTF-8.
    for body in [&[9, b'x'][..], &[1, 0xff]] {
        let length = u32::try_from(body.len()).unwrap();
        let error = unusable(&[&length.to_le_bytes(), body].concat());
        assert!(matches!(error, FrameError::Codec(_)), "{error}");
    }
    let error = unusable(&u32::try_from(ANSWER_BYTES_MAX + 1).unwrap().to_le_bytes());
    assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
    let error = unusable(&out_of_line_header(100));
    assert!(matches!(error, FrameError::Misplaced), "{error}");
}

#[test]
fn an_answer_before_the_end_is_heard_and_then_the_end() {
    let (mut conversation, mut stand_in) = conversation();
    stand_in.answers("last words");
    stand_in.ends(&mut conversation);
    assert_eq!(receive(&mut conversation).unwrap(), "last words");
    let ended = receive(&mut conversation);
    let Err(NoAnswer::Ended(End { exit, by_itself: true, .. })) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(exit.code(), Some(0));
}

#[test]
fn half_an_answer_and_none_are_the_end() {
    for sent in [&b""[..], &frame("half")[..2], &frame("half")[..6]] {
        let (mut conversation, mut stand_in) = conversation();
        stand_in.sends(sent);
        stand_in.ends(&mut conversation);
        let ended = receive(&mut conversation);
        let Err(NoAnswer::Ended(End { exit, by_itself: true, .. })) = ended else {
            panic!("{sent:?}: {ended:?}")
        };
        assert_eq!(exit.code(), Some(0));
    }
}

#[test]
fn a_question_that_is_too_late_is_followed_by_what_was_said_before() {
    let (mut conversation, mut stand_in) = conversation();
    stand_in.answers("I give up");
    stand_in.ends(&mut conversation);
    conversation.send(&"a question".to_owned(), &[]).unwrap();
    assert_eq!(receive(&mut conversation).unwrap(), "I give up");
    assert!(matches!(receive(&mut conversation), Err(NoAnswer::Ended(_))));
}

#[test]
fn an_end_with_questions_that_were_not_read_is_an_end() {
    let (mut conversation, stand_in) = conversation();
    conversation.send(&"a question".to_owned(), &[]).unwrap();
    // The socket says then that the connection was reset.
    stand_in.ends(&mut conversation);
    let ended = receive(&mut conversation);
    assert!(matches!(ended, Err(NoAnswer::Ended(End { by_itself: true, .. }))), "{ended:?}");
}

#[test]
fn who_hangs_up_and_lives_is_killed() {
    let (mut conversation, StandIn { socket, life: _life }) = conversation();
    drop(socket);
    let ended = receive(&mut conversation);
    let Err(NoAnswer::Ended(End { exit, by_itself: false, .. })) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(exit.signal(), Some(libc::SIGKILL));
}

#[test]
fn who_does_not_read_is_not_waited_for() {
    let (mut conversation, _stand_in) = conversation();
    let question = "a question".repeat(1000);
    let refused = (0..10_000).find_map(|_| conversation.send(&question, &[]).err());
    assert!(matches!(refused, Some(NoAnswer::Fault(_))), "{refused:?}");
    assert!(conversation.child.has_ended());
}

#[test]
fn an_interrupt_ends_the_wait_of_now_and_every_later_one() {
    let interrupt = Interrupt::default();
    let (first, _alive) = conversation();
    let mut first = first.until(&interrupt).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| interrupt.interrupt());
        let interrupted = first.receive::<String>(None);
        assert!(matches!(interrupted, Err(NoAnswer::Interrupted)), "{interrupted:?}");
    });
    assert!(first.child.has_ended());
    let (later, _alive) = conversation();
    let mut later = later.until(&interrupt).unwrap();
    later.send(&"a question".to_owned(), &[]).unwrap();
    assert!(matches!(later.receive::<String>(None), Err(NoAnswer::Interrupted)));
}

#[test]
fn who_has_too_much_memory_is_not_waited_for() {
    let (mut conversation, _alive) = conversation_with(MemoryAllowance::none());
    let ended = conversation.receive::<String>(None);
    assert!(matches!(ended, Err(NoAnswer::TooMuchMemory(_))), "{ended:?}");
    assert!(conversation.child.has_ended());
}

#[test]
fn an_answer_comes_with_one_descriptor_or_none() {
    let received = |sent| {
        let (conversation, stand_in) = conversation();
        let mut conversation = conversation.with_descriptors();
        stand_in.sends_descriptors(1, sent);
        receive(&mut conversation).map(|answer| (answer, conversation.take_descriptor()))
    };
    assert!(matches!(received(0), Ok((answer, None)) if answer == "x"));
    assert!(matches!(received(1), Ok((answer, Some(_))) if answer == "x"));
    // The kernel rounds the room up to two, and closes all beyond.
    for sent in [2, 3, 5] {
        assert!(matches!(received(sent), Err(NoAnswer::Unusable(_))), "{sent}");
    }
}

#[test]
fn a_descriptor_that_nobody_has_room_for_is_closed() {
    let (mut conversation, stand_in) = conversation();
    stand_in.sends_descriptors(1, 1);
    assert_eq!(receive(&mut conversation).unwrap(), "x");
    assert!(conversation.take_descriptor().is_none());
}

#[test]
fn descriptors_beside_each_byte_are_refused() {
    let (conversation, stand_in) = conversation();
    let mut conversation = conversation.with_descriptors();
    // An answer in two parts, each with a descriptor.
    let file = File::open("/dev/null").unwrap();
    let mut sender = Sender::new(stand_in.socket.try_clone().unwrap());
    sender.try_send(&String::new(), &[file.as_fd()]).unwrap();
    sender.try_send(&String::new(), &[file.as_fd()]).unwrap();
    assert_eq!(receive(&mut conversation).unwrap(), "");
    let refused = receive(&mut conversation);
    assert!(matches!(refused, Err(NoAnswer::Unusable(_))), "{refused:?}");
}
