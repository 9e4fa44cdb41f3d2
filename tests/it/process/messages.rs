//! Messages from anywhere.

use proptest::prelude::*;
use uncook::worker::{
    options::Options,
    process::message::{
        Failure, Inbox, MAX_MESSAGE_BYTES, MessageError, Order, PROTOCOL, Reply, Request, Results,
        Wanted, Work, check_greeting, decode, encode, greeting, greeting_of,
    },
};

fn requests() -> impl Strategy<Value = Request> {
    let order = (
        ".{0,40}",
        proptest::option::of(".{0,40}"),
        any::<(u32, u8, u64, u64)>(),
        ".{0,300}",
    )
        .prop_map(
            |(folder, cache, (sample_rate, channels, frames, done), style)| {
                Request::Begin(Box::new(Order {
                    folder: folder.into(),
                    cache: cache.map(Into::into),
                    sample_rate,
                    channels,
                    frames,
                    options: Options {
                        style,
                        seed: done,
                        ..Options::default()
                    },
                    work: if done % 2 == 0 {
                        Work::Whole(Wanted {
                            stems: done % 4 == 0,
                            parts: done % 3 == 0,
                        })
                    } else {
                        Work::Ahead { done }
                    },
                }))
            },
        );
    prop_oneof![
        order,
        any::<bool>().prop_map(Request::Fetched),
        Just(Request::Cancel)
    ]
}

fn replies() -> impl Strategy<Value = Reply> {
    prop_oneof![
        any::<u32>().prop_map(Reply::Queued),
        (any::<u8>(), 0.0..1.0f64, any::<u64>()).prop_map(|(step, done, beats)| Reply::Progress {
            step,
            done,
            beats
        }),
        any::<(u64, u64)>().prop_map(|(start, end)| Reply::Fetch { start, end }),
        Just(Reply::DoneAhead),
        (
            any::<[bool; 4]>(),
            proptest::collection::vec(".{0,20}", 0..5),
            any::<u64>()
        )
            .prop_map(|(layers, parts, findings)| Reply::Done(Box::new(Results {
                layers,
                parts,
                findings
            }))),
        ".{0,200}".prop_map(|reason| Reply::Failed(Failure::Regeneration(reason))),
        any::<u8>().prop_map(|n| Reply::Failed(Failure::Channels(n))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_sent_arrives_however_it_is_cut(
        sent in proptest::collection::vec(replies(), 0..6),
        piece in 1usize..50,
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(|r| encode(r).unwrap()).collect();
        let mut inbox = Inbox::default();
        let mut arrived = Vec::new();
        for part in bytes.chunks(piece) {
            inbox.push(part);
            while let Some(reply) = inbox.take::<Reply>().unwrap() {
                arrived.push(reply);
            }
        }
        prop_assert_eq!(arrived, sent);
    }

    #[test]
    fn requests_read_back(request in requests()) {
        let bytes = encode(&request).unwrap();
        prop_assert_eq!(&decode::<Request>(&bytes[4..]).unwrap(), &request);
        // Cut off anywhere, or with more behind it: refused, not misread.
        for len in 0..bytes.len() - 4 {
            prop_assert!(decode::<Request>(&bytes[4..4 + len]).is_err());
        }
        let longer = [&bytes[4..], &[0]].concat();
        prop_assert!(decode::<Request>(&longer).is_err());
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut inbox = Inbox::default();
        inbox.push(&bytes);
        while let Ok(Some(_)) = inbox.take::<Request>() {}
        let _ = decode::<Request>(&bytes);
        let _ = decode::<Reply>(&bytes);
        if let Some(greeting) = bytes.first_chunk() {
            prop_assert!(check_greeting(greeting).is_err());
        }
    }

    #[test]
    fn a_changed_byte_never_passes_for_more(request in requests(), at in any::<prop::sample::Index>(), to: u8) {
        let mut bytes = encode(&request).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let mut inbox = Inbox::default();
        inbox.push(&bytes);
        // An error, nothing yet, or a message that says itself what was sent.
        if let Ok(Some(read)) = inbox.take::<Request>() {
            prop_assert!(encode(&read).is_ok());
        }
    }
}

#[test]
fn lengths_are_bounded_before_anything_is_allocated() {
    for length in [MAX_MESSAGE_BYTES as u32 + 1, u32::MAX] {
        let mut inbox = Inbox::default();
        inbox.push(&length.to_le_bytes());
        let error = inbox.take::<Request>().unwrap_err();
        let actual = length as usize;
        assert_eq!(error, MessageError::TooLong { actual });
    }
    // A string of 2^63 bytes inside a short message.
    let hostile = [0u8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(decode::<Request>(&hostile).is_err());
    let style = "x".repeat(MAX_MESSAGE_BYTES);
    let failed = Reply::Failed(Failure::Regeneration(style));
    assert!(matches!(encode(&failed), Err(MessageError::TooLong { .. })));
}

#[test]
fn greetings_tell_versions_apart() {
    assert_eq!(check_greeting(&greeting()), Ok(()));
    for (protocol, build) in [
        (PROTOCOL + 1, env!("CARGO_PKG_VERSION")),
        (PROTOCOL, "9.9.9"),
    ] {
        let error = check_greeting(&greeting_of(protocol, build)).unwrap_err();
        let build = build.to_owned();
        assert_eq!(error, MessageError::OtherVersion { protocol, build });
    }
    let mut stranger = greeting();
    stranger[0] ^= 1;
    assert_eq!(check_greeting(&stranger), Err(MessageError::Stranger));
    // The length of the name is a claim.
    let mut long = greeting();
    long[12] = 200;
    assert_eq!(check_greeting(&long), Err(MessageError::Stranger));
}
