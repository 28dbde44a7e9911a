//! How busy the nodes of a cluster are, by the commands that they count.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use ops::exit::{Exit, Stop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use topology::service::Service;

/// The count that is looked at.
const COMMANDS: &str = "godwit_node_commands_total";
/// Between two looks at a count.
const APART: Duration = Duration::from_secs(1);
/// Between two measurements, while waiting.
const AGAIN: Duration = Duration::from_secs(10);
/// A node that does not answer by then is not asked further.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A page of metrics is shorter.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// When a run may begin.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Commands a second of the busiest node.
    pub below: u64,
    /// How long to wait for that.
    pub wait: Duration,
}

/// Waits until no node of the cluster takes as many commands a second.
///
/// # Errors
/// They are busy all the time: exit code 3. Or a node's metrics cannot be read.
pub async fn wait(
    registry: &str,
    service: &str,
    cluster: &str,
    limit: Limit,
) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + limit.wait;
    let registry = topology::open(registry)?;
    let service = Service::open(registry, service).await?;
    loop {
        let busiest = busiest(&service, cluster).await.context("--if-load-below")?;
        if busiest < limit.below {
            return Ok(());
        }
        let now = tokio::time::Instant::now();
        if now >= deadline {
            let why = format!(
                "a node of cluster {cluster} takes {busiest} commands a second, and --if-load-below is {}: nothing was done",
                limit.below
            );
            return Err(Stop::new(Exit::Refused, why).into());
        }
        tracing::info!(busiest, below = limit.below, "waiting until the nodes have time");
        tokio::time::sleep(AGAIN.min(deadline - now)).await;
    }
}

async fn busiest(service: &Service, cluster: &str) -> anyhow::Result<u64> {
    let view = service.view();
    let nodes = view.nodes.values().filter(|node| node.shard.cluster == cluster);
    let mut addresses = Vec::new();
    for node in nodes {
        let address = node.metrics.clone().ok_or_else(|| {
            anyhow!("the node of {} serves no metrics: start it with --metrics", node.shard)
        })?;
        addresses.push(address);
    }
    if addresses.is_empty() {
        bail!("the registry shows no node of cluster {cluster}");
    }
    let mut before = Vec::new();
    let begun = tokio::time::Instant::now();
    for address in &addresses {
        before.push(commands(address).await?);
    }
    tokio::time::sleep(APART).await;
    let mut most = 0.0_f64;
    for (address, before) in addresses.iter().zip(before) {
        let after = commands(address).await?;
        most = most.max(after.saturating_sub(before) as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(most as u64)
}

/// What a node has counted.
async fn commands(address: &str) -> anyhow::Result<u64> {
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, page(address)).await;
    let page = asked.map_err(|_| anyhow!("no answer within {ANSWER_TIMEOUT:?}"));
    let page = page.and_then(|page| page).with_context(|| format!("reading {address}/metrics"))?;
    count(&page).with_context(|| format!("{address}/metrics has no {COMMANDS}"))
}

async fn page(address: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.take(PAGE_BYTES_MAX).read_to_string(&mut answer).await?;
    if !answer.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        bail!("it answered {:?}", answer.lines().next().unwrap_or_default());
    }
    Ok(answer)
}

fn count(page: &str) -> Option<u64> {
    let lines = page.lines().filter(|line| line.starts_with(COMMANDS));
    let numbers = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    numbers.reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_a_page() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# HELP x\ngodwit_node_commands_total{shard=\"0\"} 12\n";
        assert_eq!(count(page), Some(12));
        assert_eq!(count("# TYPE godwit_node_commands counter"), None);
    }

    #[tokio::test]
    async fn a_node_is_asked_over_http() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            for answer in [
                "HTTP/1.0 200 OK\r\n\r\ngodwit_node_commands_total 7\n",
                "HTTP/1.0 404 Not Found\r\n\r\n",
            ] {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = [0; 256];
                let read = socket.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /metrics "));
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(commands(&address).await.unwrap(), 7);
        assert!(format!("{:#}", commands(&address).await.unwrap_err()).contains("404"));
    }
}
