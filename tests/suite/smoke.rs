use stockade_tests::wat;

const SCALARS: &str = r#"(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "spin") (loop $l (br $l)))
  (func (export "trap") unreachable)
)"#;

#[test]
fn scalars() {
    let pool = wat(SCALARS).build().unwrap();
    assert_eq!(pool.run::<i32>("add", (2, 3)).unwrap(), 5);
    let results: Vec<i32> =
        pool.starmap("add", (0..1000).map(|i| (i, i))).collect::<Result<_, _>>().unwrap();
    assert_eq!(results, (0..1000).map(|i| 2 * i).collect::<Vec<_>>());
    println!("{:?}", pool.run::<()>("trap", ()));
    let handle = pool.submit::<i32>("add", (1, 1)).unwrap();
    println!("{:?}", handle.report());
    assert!(pool.shutdown());
}
