//! The examples on real input, as README shows them.

use crate::args;
use crate::support::{Folder, data, example, stockade};

#[test]
fn words_of_a_book_are_counted() {
    let book = format!("@{}", data("wordcount/data/alice.txt").display());
    let ended = stockade(args!["run", example("wordcount"), "top_words", book, "2"]).end();
    assert!(ended.stdout().starts_with("[[\"the\","), "{ended:?}");
}

#[test]
fn lines_of_a_book_are_mapped() {
    let book = data("wordcount/data/alice.txt");
    let all = args!["map", example("wordcount"), "word_count", "--input", "text", book, "--plain"];
    let ended = stockade(all).end();
    let sum: u64 = ended.stdout().lines().map(|line| line.parse::<u64>().unwrap()).sum();
    assert_eq!((ended.code, sum), (Some(0), 26_685));
}

#[test]
fn pictures_become_thumbnails() {
    let folder = Folder::new();
    for (picture, format) in [("cat.png", "png"), ("rocket.jpg", "jpeg")] {
        let picture = data("thumbnail/data").join(picture);
        let small = folder.path().join("small.png");
        let guest = example("thumbnail");
        let ended = stockade(args!["run", guest, "preview", "--bytes", picture, "-o", small]).end();
        ended.gives("");
        assert!(std::fs::read(small).unwrap().starts_with(b"\x89PNG"));

        let ended = stockade(args!["run", guest, "describe", "--bytes", picture]).end();
        assert!(ended.stdout().contains(&format!("\"format\":\"{format}\"")), "{ended:?}");

        let by_file = format!("@{}", picture.display());
        let ended = stockade(args!["run", guest, "thumbnail", by_file, "16"]).end();
        assert!(ended.stdout().starts_with("\"iVBORw0KGgo"), "base64 of a PNG: {ended:?}");
    }
}
