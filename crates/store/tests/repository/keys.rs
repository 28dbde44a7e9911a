//! Who may read.

use store::StoreError;
use store::repository::{Keys, Repository};

use super::filled::{create, directory};

#[tokio::test]
async fn whoever_has_other_keys_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::generate().unwrap();
    create(directory(dir.path()), &keys.to_write()).await;
    let open = async |keys| Repository::open(directory(dir.path()), keys).await;
    let refusal = async |keys| open(keys).await.unwrap_err().to_string();
    assert!(refusal(Keys::none()).await.contains("name the key file"));
    assert!(refusal(Keys::generate().unwrap()).await.contains("other keys"));
    assert!(open(keys.rotate().unwrap()).await.is_ok());
    let plain = tempfile::tempdir().unwrap();
    create(directory(plain.path()), &Keys::none()).await;
    let why = Repository::open(directory(plain.path()), keys).await.unwrap_err().to_string();
    assert!(why.contains("not encrypted"), "{why}");
    let empty = tempfile::tempdir().unwrap();
    let none = Repository::open(directory(empty.path()), Keys::none()).await.unwrap_err();
    assert!(matches!(none, StoreError::NoRepository { .. }), "{none}");
    std::fs::write(empty.path().join("GODWIT-STORE"), "godwit-store format 1\n").unwrap();
    let old = Repository::open(directory(empty.path()), Keys::none()).await.unwrap_err();
    assert!(old.to_string().contains("cannot share"), "{old}");
}
