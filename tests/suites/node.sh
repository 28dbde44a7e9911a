# For the suites: builds a node and starts one in a scratch directory on a free port; ends it when the
# shell ends. Sets $port. Its log is kept if it ended by itself.
#
# start_node TARGET_DIRECTORY

end_node() {
  kill "$node" 2>/dev/null || true
  wait "$node" 2>/dev/null || true
  rm -rf "$scratch"
}

start_node() {
  local profile=${PROFILE:-release} built
  # The whole workspace's features, so that nothing is built that other builds have not.
  cargo build --quiet --profile "$profile" --workspace --bin godwit-node
  built=$1/$([ "$profile" = dev ] && echo debug || echo "$profile")
  scratch=$(mktemp -d)
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$built/godwit-node" --dir "$scratch" --listen "127.0.0.1:$port" >"$scratch.log" 2>&1 &
  node=$!
  trap end_node EXIT
  for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
    kill -0 "$node" 2>/dev/null || break
    sleep 0.1
  done
  cat "$scratch.log" >&2
  exit 1
}
