//! Shapes from both sides: what a guest reads of a caller's value, what a caller reads of a guest's.
//!
//! The guest's side is played by the codec that its SDK uses.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::de::value::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Shape, decode};
use crate::call::arguments::Bytes;
use crate::call::codec::{Unfit, to_bincode};

mod property;

/// What a guest with one parameter `x` of the type `type_text` reads where a caller gives `value`.
fn sent<G: DeserializeOwned>(value: impl Serialize, type_text: &str) -> Result<G, String> {
    let shape = Shape::tuple(vec![Shape::of_parameter(type_text)]);
    let bytes = to_bincode(&(value,), &shape).map_err(|unfit| match unfit {
        Unfit::Refused(refused) => refused.of_arguments(["x"].into_iter()),
        Unfit::Unwritable(reason) => reason,
    })?;
    let ((value,), used) =
        bincode::serde::decode_from_slice::<(G,), _>(&bytes, bincode::config::legacy())
            .expect("what a guest of this type can read");
    assert_eq!(used, bytes.len(), "bytes left over");
    Ok(value)
}

/// What a caller reads where a guest whose result has the type `type_text` gives `value`.
fn returned<T: DeserializeOwned>(value: impl Serialize, type_text: &str) -> Result<T, String> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::legacy()).unwrap();
    decode(&bytes, &Shape::of_result(type_text)).map_err(|error| error.to_string())
}

fn assert_same<T: Serialize + DeserializeOwned + PartialEq + Debug + Clone>(
    value: T,
    type_text: &str,
) {
    assert_eq!(sent::<T>(value.clone(), type_text).unwrap(), value, "{type_text}");
    assert_eq!(returned::<T>(value.clone(), type_text).unwrap(), value, "{type_text}");
    assert_eq!(sent::<T>(value.clone(), "TheirOwn").unwrap(), value);
    assert_eq!(returned::<T>(value.clone(), "TheirOwn").unwrap(), value);
}

fn assert_refused<T: Debug>(given: Result<T, String>, problem: &str) {
    assert_eq!(given.expect_err("not refused"), format!("argument 1 {problem}"));
}

#[test]
fn values_of_the_very_type_pass_both_ways() {
    assert_same(i8::MIN, "i8");
    assert_same(i16::MIN, "i16");
    assert_same(i32::MIN, "i32");
    assert_same(i64::MIN, "i64");
    assert_same(i128::MIN, "i128");
    assert_same(isize::MIN, "isize");
    assert_same(u8::MAX, "u8");
    assert_same(u16::MAX, "u16");
    assert_same(u32::MAX, "u32");
    assert_same(u64::MAX, "u64");
    assert_same(u128::MAX, "u128");
    assert_same(usize::MAX, "usize");
    assert_same(f32::MIN_POSITIVE, "f32");
    assert_same(f64::MIN_POSITIVE, "f64");
    assert_same(true, "bool");
    "aä€\u{1f980}".chars().for_each(|character| assert_same(character, "char"));
    assert_same("ä".to_string(), "String");
    assert_same(Bytes(vec![0, 255]), "Bytes");
    assert_same(vec![0u8, 255], "Vec<u8>");
    assert_same((), "()");
    assert_same(Some(7u16), "Option<u16>");
    assert_same(None::<u16>, "Option<u16>");
    assert_same(vec![1.5f32, 2.5], "Vec<f32>");
    assert_same(VecDeque::from([1u32]), "VecDeque<u32>");
    assert_same([1u64, 2, 3], "[u64; 3]");
    assert_same([1u64, 2, 3], "[u64; N]");
    assert_same((1u8, "x".to_string(), Some([false])), "(u8, String, Option<[bool; 1]>)");
    assert_same(BTreeMap::from([("a".to_string(), 1u64)]), "HashMap<String, u64>");
    assert_same(vec![(), ()], "Vec<()>");
}

#[test]
fn numbers_become_those_that_the_guest_reads_or_are_refused() {
    assert_eq!(sent(1, "usize"), Ok(1u64));
    assert_eq!(sent(1, "f32"), Ok(1f32));
    assert_eq!(sent(-128, "i8"), Ok(-128i8));
    assert_eq!(sent(255, "u8"), Ok(255u8));
    assert_eq!(sent(u64::MAX, "u128"), Ok(u128::from(u64::MAX)));
    assert_eq!(sent(0.1, "f32"), Ok(0.1f32));
    assert_eq!(sent(0.1f32, "f64"), Ok(f64::from(0.1f32)));
    assert_eq!(sent(vec![1, 2], "Vec<u64>"), Ok(vec![1u64, 2]));
    assert_eq!(sent(Some(1), "Option<u64>"), Ok(Some(1u64)));
    assert_eq!(sent(HashMap::from([("a", 1)]), "BTreeMap<String, f64>"), {
        Ok(HashMap::from([("a".to_string(), 1f64)]))
    });

    assert_refused(sent::<i8>(-129, "i8"), "`x` takes an i8, got -129, which does not fit");
    assert_refused(sent::<u8>(256, "u8"), "`x` takes a u8, got 256, which does not fit");
    assert_refused(sent::<u64>(-1, "usize"), "`x` takes a usize, got -1, which does not fit");
    assert_refused(sent::<u64>(2.0, "u64"), "`x` takes a u64, got 2.0");
    assert_refused(sent::<f32>(1e300, "f32"), "`x` takes an f32, got 1e300, which does not fit");
    assert_refused(
        sent::<f32>((1 << 24) + 1, "f32"),
        "`x` takes an f32, got 16777217, which it cannot hold exactly",
    );
    assert_refused(
        sent::<Vec<u8>>(vec![1, 300], "Vec<u8>"),
        "`x[1]` takes a u8, got 300, which does not fit",
    );
}

#[test]
fn lists_arrays_and_tuples_become_one_another() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Point {
        x: f32,
        y: f32,
    }
    #[derive(Serialize)]
    struct Metres(f32);

    assert_eq!(sent([1, 2, 3], "Vec<u64>"), Ok(vec![1u64, 2, 3]));
    assert_eq!(sent((1, 2u8), "&[u64]"), Ok(vec![1u64, 2]));
    assert_eq!(sent(vec![1, 2], "[u64; 2]"), Ok([1u64, 2]));
    assert_eq!(sent(vec![1, 2], "(u64, f32)"), Ok((1u64, 2f32)));
    assert_eq!(sent([1, 2], "Bytes"), Ok(Bytes(vec![1, 2])));
    assert_eq!(sent(Bytes(vec![1]), "Vec<u8>"), Ok(vec![1u8]));
    assert_eq!(sent(Point { x: 1., y: 2. }, "(f32, f64)"), Ok((1f32, 2f64)));
    assert_eq!(sent(Metres(1.5), "f64"), Ok(1.5f64));

    assert_eq!(returned::<Vec<u64>>([1u64, 2], "[u64; 2]"), Ok(vec![1, 2]));
    assert_eq!(returned::<[u64; 2]>([1u64, 2], "[u64; TWO]"), Ok([1, 2]));
    assert_eq!(returned::<[u8; 2]>(vec![1u64, 2], "Vec<u64>"), Ok([1, 2]));
    assert_eq!(returned::<Vec<u16>>(vec![1u8, 2], "Vec<u8>"), Ok(vec![1, 2]));
    assert_eq!(
        returned::<Vec<Point>>(vec![(1u8, 0.5f64)], "Vec<(u8, f64)>"),
        Ok(vec![Point { x: 1., y: 0.5 }])
    );

    assert_refused(sent::<[u8; 2]>([1], "[u8; 2]"), "`x` takes an array of 2, got 1 element");
    assert_refused(
        sent::<[u8; 2]>(vec![1; 3], "[u8; 2]"),
        "`x` takes an array of 2, got 3 elements",
    );
    assert_refused(sent::<(u8,)>((1, 2), "(u8,)"), "`x` takes a tuple of 1, got 2 elements");
    for type_text in ["Vec<u64>", "[u64; 3]", "(u64, u64, u64)", "[u64; N]"] {
        let given = [1u64, 2, 3];
        let result = match type_text {
            "Vec<u64>" => returned::<(u64, u64)>(given.to_vec(), type_text),
            _ => returned::<(u64, u64)>(given, type_text),
        };
        assert!(result.is_err(), "{type_text}");
    }
}

#[test]
fn a_value_of_another_kind_is_refused_by_name() {
    #[derive(Serialize)]
    struct Own {
        x: u8,
    }
    #[derive(Serialize)]
    enum Either {
        This,
        That(u8),
    }
    let map = BTreeMap::from([("a", "b")]);

    assert_refused(sent::<u64>("1", "u64"), "`x` takes a u64, got text");
    assert_refused(sent::<u64>(true, "u64"), "`x` takes a u64, got a bool");
    assert_refused(sent::<u64>('1', "u64"), "`x` takes a u64, got a char");
    assert_refused(sent::<u64>((), "u64"), "`x` takes a u64, got ()");
    assert_refused(sent::<u64>(Some(1), "u64"), "`x` takes a u64, got Some(…)");
    assert_refused(sent::<u64>(None::<u64>, "u64"), "`x` takes a u64, got None");
    assert_refused(sent::<u64>(Own { x: 1 }, "u64"), "`x` takes a u64, got a struct `Own`");
    assert_refused(sent::<u64>(Either::This, "u64"), "`x` takes a u64, got an enum `Either`");
    assert_refused(sent::<u64>(Either::That(1), "u64"), "`x` takes a u64, got an enum `Either`");
    assert_refused(sent::<u64>(vec![1], "u64"), "`x` takes a u64, got a list");
    assert_refused(sent::<u64>((1,), "u64"), "`x` takes a u64, got a tuple or an array");
    assert_refused(sent::<u64>(&map, "u64"), "`x` takes a u64, got a map");
    assert_refused(sent::<String>(1, "&str"), "`x` takes text, got 1");
    assert_refused(sent::<String>(Bytes(vec![]), "String"), "`x` takes text, got bytes");
    assert_refused(sent::<Bytes>("", "Bytes"), "`x` takes bytes, got text");
    assert_refused(sent::<bool>(1, "bool"), "`x` takes a bool, got 1");
    assert_refused(sent::<char>("a", "char"), "`x` takes a char, got text");
    assert_refused(sent::<()>(0, "()"), "`x` takes (), got 0");
    assert_refused(
        sent::<Option<u64>>(1u64, "Option<u64>"),
        "`x` takes an Option, got 1; pass Some(…) or None",
    );
    assert_refused(sent::<Vec<u64>>(1, "Vec<u64>"), "`x` takes a list, got 1");
    assert_refused(
        sent::<Vec<u64>>(Own { x: 1 }, "Vec<u64>"),
        "`x` takes a list, got a struct `Own`",
    );
    assert_refused(
        sent::<HashMap<String, u64>>(map, "HashMap<String, u64>"),
        "`x.values[0]` takes a u64, got text",
    );
    assert_refused(
        sent::<HashMap<String, u64>>([("a", 1)], "HashMap<String, u64>"),
        "`x` takes a map, got a tuple or an array",
    );
}

#[test]
fn results_become_what_the_caller_asks_where_that_is_the_same() {
    assert_eq!(returned::<u32>(7u64, "u64"), Ok(7));
    assert_eq!(returned::<u32>(u64::from(u32::MAX), "u64"), Ok(u32::MAX));
    assert!(returned::<u32>(u64::from(u32::MAX) + 1, "u64").is_err());
    assert_eq!(returned::<u64>(7i8, "i8"), Ok(7));
    assert!(returned::<u64>(-1i8, "i8").is_err());
    assert_eq!(returned::<i128>(-1i8, "i8"), Ok(-1));
    assert_eq!(returned::<i8>(-1i128, "Result<i128, String>"), Ok(-1));
    assert_eq!(returned::<f64>(1u64 << 53, "u64"), Ok(9_007_199_254_740_992.0));
    assert!(returned::<f64>((1u64 << 53) + 1, "u64").is_err());
    assert_eq!(returned::<f32>(0.5f64, "f64"), Ok(0.5));
    assert!(returned::<f32>(0.1f64, "f64").is_err());
    assert!(returned::<u64>(2f64, "f64").is_err());
    assert_eq!(
        returned::<Vec<(String, u32)>>(vec![("a", 2u64)], "Vec<(String, u64)>"),
        Ok(vec![("a".to_string(), 2)])
    );

    assert!(returned::<String>(7u64, "u64").is_err());
    assert!(returned::<u64>("7", "String").is_err());
    assert!(returned::<Bytes>("YQ==", "String").is_err());
    assert!(returned::<String>(Bytes(b"a".to_vec()), "Bytes").is_err());
    assert!(returned::<Option<u64>>(7u64, "u64").is_err());
    assert!(returned::<u64>(Some(7u64), "Option<u64>").is_err());
    assert!(returned::<bool>(1u8, "u8").is_err());
    assert!(returned::<()>(1u8, "u8").is_err());
}

#[test]
fn a_type_without_a_shape_of_its_own_takes_that_of_the_module() {
    let given = (1u64, vec![("a", Some(-1i8))]);
    let value: Value = returned(given, "(u64, HashMap<String, Option<i8>>)").unwrap();
    assert_eq!(value, serde_json::json!([1, { "a": -1 }]));
    assert!(returned::<Value>(1u64, "TheirOwn").is_err());
    assert!(returned::<Vec<u8>>([1u8], "[u8; N]").is_err());
}

#[test]
fn enums_and_structs_of_the_guest_are_read_as_the_caller_declares_them() {
    #[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
    enum Shade {
        None,
        Grey(u8),
        Colour(u8, u8, u8),
        Named { name: String, alpha: Option<f32> },
    }
    #[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
    struct Picture {
        shades: Vec<Shade>,
        nothing: (),
    }

    let named = Shade::Named { name: "red".into(), alpha: Some(0.5) };
    let shades = vec![Shade::None, Shade::Grey(1), Shade::Colour(1, 2, 3), named];
    assert_same(vec![Picture { shades, nothing: () }], "Vec<Picture>");
}

#[test]
fn invalid_bytes_are_refused() {
    let read = |bytes: &[u8], type_text| decode::<Value>(bytes, &Shape::of_result(type_text));
    let prefixed = |bytes: &[u8]| [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    assert!(read(&[2], "bool").is_err());
    assert!(read(&[2, 0], "Option<u8>").is_err());
    assert!(read(&prefixed(b"\xff"), "String").is_err());
    for character in [&b""[..], b"\xff", b"\x80", b"\xc3", b"\xed\xa0\x80", b"aa", b"\xf0\x9f"] {
        assert!(decode::<char>(character, &Shape::Char).is_err(), "{character:?}");
    }
    assert!(read(&[0; 7], "u64").is_err());
    assert!(read(&[0; 9], "u64").is_err());
    assert!(decode::<Result<u8, u8>>(&[2, 0, 0, 0, 0], &Shape::Any).is_err());
}

#[test]
fn a_claimed_length_beyond_the_bytes_is_refused_at_once() {
    for claim in [u64::MAX, 1 << 62, 1 << 40, 1 << 21] {
        let claim = claim.to_le_bytes();
        assert!(decode::<Vec<u64>>(&claim, &Shape::Any).is_err());
        assert!(decode::<String>(&claim, &Shape::Any).is_err());
        assert!(decode::<Bytes>(&claim, &Shape::Any).is_err());
        assert!(decode::<Vec<()>>(&claim, &Shape::Any).is_err());
        assert!(decode::<HashMap<(), ()>>(&claim, &Shape::Any).is_err());
        for type_text in ["Vec<u64>", "Vec<()>", "HashMap<(), ()>", "String", "Bytes"] {
            let shape = Shape::of_result(type_text);
            assert!(decode::<Value>(&claim, &shape).is_err(), "{type_text}");
            assert!(decode::<serde::de::IgnoredAny>(&claim, &shape).is_err(), "{type_text}");
        }
    }
    let shape = Shape::of_result("[(); 99999999999]");
    assert!(decode::<Vec<()>>(&[], &shape).is_err());
}

/// As many values without bytes of their own may be besides two for each byte.
const BARE_VALUES_MAX: usize = 1 << 16;

#[test]
fn elements_without_bytes_are_counted_over_the_whole_result() {
    let rows = |count: usize, each: usize| {
        let each = (each as u64).to_le_bytes();
        let lengths = [&(count as u64).to_le_bytes()[..], &each.repeat(count)].concat();
        decode::<Vec<Vec<()>>>(&lengths, &Shape::Any)
    };
    let most = (BARE_VALUES_MAX + 2 * 40) / 4;
    assert_eq!(rows(4, most).map(|rows| rows.len()), Ok(4));
    assert!(rows(4, most + 1).is_err());
    // What bytes pay for is not counted.
    let pairs = vec![((), 1u8); (1 << 20) + 1];
    assert_eq!(returned::<Vec<((), u8)>>(&pairs, "Vec<((), u8)>").as_ref(), Ok(&pairs));
    assert_eq!(returned::<Vec<((), u8)>>(&pairs, "TheirOwn").as_ref(), Ok(&pairs));
}

fn rows(text: &str, count: usize, row: &[u8]) -> Result<(), Error> {
    let bytes = [&(count as u64).to_le_bytes()[..], &row.repeat(count)].concat();
    decode::<Value>(&bytes, &Shape::of_result(text)).map(drop)
}

/// The module's text says how many parts a tuple has, and a result how often it is there.
#[test]
fn parts_without_bytes_are_counted_beside_the_bytes_of_the_result() {
    let units = vec!["()"; 1000].join(",");
    let most = (BARE_VALUES_MAX + 2 * 8) / 1001;
    assert_eq!(rows(&format!("Vec<({units})>"), most, &[]), Ok(()));
    assert!(rows(&format!("Vec<({units})>"), most + 1, &[]).is_err());
    let map = format!("HashMap<String, ({units})>");
    let most = (BARE_VALUES_MAX + 2 * 8) / (1001 - 2 * 8);
    assert_eq!(rows(&map, most, &[0; 8]), Ok(()));
    assert!(rows(&map, most + 1, &[0; 8]).is_err());
    // Each byte pays for two, here for the tuple and its second part.
    assert_eq!(rows("Vec<(u8, ())>", 1 << 20, &[7]), Ok(()));
    assert!(rows("Vec<(u8, (), ())>", 1 << 20, &[7]).is_err());
}

/// Each is a list in the caller's memory, and a module's text puts thirty of them around one byte.
#[test]
fn tuples_and_arrays_around_a_byte_are_counted_too() {
    let most = BARE_VALUES_MAX + 2 * 8;
    for text in ["Vec<(((u8,),),)>", "Vec<[[[u8; 1]; 1]; 1]>", "Vec<([(u8,); 1],)>"] {
        assert_eq!(rows(text, most, &[7]), Ok(()), "{text}");
        assert!(rows(text, most + 1, &[7]).is_err(), "{text}");
    }
}

#[test]
fn depth_is_bounded() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Nested {
        End,
        In(Box<Nested>),
    }
    let deep = |depth: usize| {
        let bytes = [&1u32.to_le_bytes().repeat(depth)[..], &0u32.to_le_bytes()].concat();
        decode::<Nested>(&bytes, &Shape::Any)
    };
    assert!(deep(128).is_ok());
    assert!(deep(129).is_err());
    assert!(deep(1_000_000).is_err());
}
