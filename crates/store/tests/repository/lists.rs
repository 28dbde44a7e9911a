//! A list grows without being listed.

use store::StoreError;
use store::bucket::Operation;
use store::repository::Keys;
use store::repository::chain::Chain;

use super::filled::{create, directory};

#[tokio::test]
async fn a_list_grows_without_being_listed_and_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let repository = create(directory(dir.path()), &Keys::none()).await;
    let (mut chain, all) = Chain::<u64>::open(&repository, "list", 0).await.unwrap();
    assert!(all.is_empty());
    for number in 0..300 {
        assert_eq!(chain.add(number * 3).await.unwrap(), number);
        if matches!(number, 0 | 1 | 62 | 63 | 64 | 127 | 200) {
            let before = repository.bucket().requests();
            let (again, all) = Chain::<u64>::open(&repository, "list", 0).await.unwrap();
            assert_eq!(all, (0..=number).map(|n| (n, n * 3)).collect::<Vec<_>>());
            assert_eq!(again.next(), number + 1);
            let made = repository.bucket().requests().total() - before.total();
            assert!(made < 24, "{made} requests to read {number} records");
        }
    }
    assert_eq!(repository.bucket().requests().of(Operation::List), 0);
    // Another writer: whoever comes second has to read again.
    let (mut other, _) = Chain::<u64>::open(&repository, "list", 300).await.unwrap();
    other.add(1).await.unwrap();
    let late = chain.add(2).await.unwrap_err();
    assert!(matches!(late, StoreError::Overtaken { .. }), "{late}");
    // A page at another place, or changed, is damage.
    let page = |n: u64| dir.path().join(format!("list/{n:016}"));
    std::fs::copy(page(299), page(301)).unwrap();
    let swapped = Chain::<u64>::open(&repository, "list", 0).await.unwrap_err();
    assert!(swapped.is_damage(), "{swapped}");
}
