#!/usr/bin/env bash
# The test plan of this host, in four phases: each line says PASS or FAIL, and the exit code is 1 when one fails.
#
#   bash examples/analysis_host/check.sh                   all of it, with processes and a Redis of its own
#   bash examples/analysis_host/check.sh celery load       some phases: old, celery, faults, load
#   URL=http://127.0.0.1:8000 TOKEN=... bash ...           on a host that runs already, whatever needs no restart
#
# It needs redis-server, curl, and what the host needs (examples/start.sh installs that into .venv).
# shellcheck disable=SC2329 # what is checked is called by `check`, and phases by their names
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
root=$PWD
PATH="$root/.venv/bin:$PATH"
own_host=$([ -n "${URL:-}" ] && echo no || echo yes)
work=$(mktemp -d)
declare -A pids
failures=0

# --- processes

port() { python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

begin_process() { # a line of the Procfile
    local command
    command=$(sed -n "s/^$1: //p" "$root/examples/analysis_host/Procfile")
    : >"$work/$1.log" # of what ran before under this name nobody is to read that it is ready
    (cd "$work" && exec bash -c "exec $command" >"$work/$1.log" 2>&1) &
    pids[$1]=$!
}

is_ready() { # wait until a process has printed this
    until grep -q "$2" "$work/$1.log" 2>/dev/null; do
        kill -0 "${pids[$1]}" || { cat "$work/$1.log"; exit 2; }
        sleep 0.2
    done
}

start() {
    begin_process "$1"
    is_ready "$1" "$2"
}

start_redis() {
    redis-server --port "$redis_port" --save "" --appendonly yes --dir "$work" >"$work/redis.log" &
    pids[redis]=$!
    until redis-cli -p "$redis_port" ping >/dev/null 2>&1; do sleep 0.1; done
}

stop() { # in order, and wait for the end
    kill "${pids[$1]}" 2>/dev/null
    wait "${pids[$1]}" 2>/dev/null
    unset "pids[$1]"
}

finish() { # those that log all at once, then what they need
    for name in web high medium low; do [ -z "${pids[$name]:-}" ] || kill "${pids[$name]}" 2>/dev/null; done
    for name in web high medium low; do [ -z "${pids[$name]:-}" ] || wait "${pids[$name]}" 2>/dev/null; done
    for name in logs redis; do [ -z "${pids[$name]:-}" ] || stop "$name"; done
    rm -rf "$work"
}
trap finish EXIT

start_workers() {
    start_redis
    for name in logs high medium low web; do begin_process "$name"; done
    for name in logs high medium low; do is_ready "$name" ready; done
    is_ready web "Uvicorn running"
}

# --- requests

call() { # method, path, body: the body of the answer, and its status in the last line
    curl -sS -X "$1" "$URL/api/v1/$2" -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \
        ${3:+-d "$3"} -w '\n%{http_code}\n'
}

of() { python -c 'import json, sys; print(json.loads(sys.stdin.readline()).get(sys.argv[1], ""))' "$1"; }

code() { call "$@" | tail -n 1; }

begin() { # what the user wants, documents: the answer
    call POST litigation-analysis/start "{\"package_id\": \"check\", \"case_type\": \"contract\", \"case_position\":
        \"plaintiff\", \"user_input\": \"$1\", \"document_ids\": ${2:-[]}}"
}

reaches() { # path, field, value: wait until an answer has it
    for _ in $(seq 600); do
        [ "$(call GET "$1" | of "$2")" = "$3" ] && return
        sleep 0.2
    done
    call GET "$1"
    return 1
}

passes() { # session, percent: wait until an analysis has come so far
    until call GET "litigation-analysis/status/$1" | python -c '
import json, sys
sys.exit(json.loads(sys.stdin.readline())["progress"].get("percent", -1) < int(sys.argv[1]))' "$2"; do
        sleep 0.2
    done
}

completes() { # the stream ends with the analysis
    follow "$1" 600 >"$work/stream"
    reaches "litigation-analysis/status/$1" status completed
}

follow() { # session, seconds: all its events until its end, or until so much time has passed
    curl -sS --max-time "$2" "$URL/api/v1/litigation-analysis/stream/$1" -H "Authorization: Bearer $TOKEN"
}

succeeds() { reaches "tasks/status/$1" state SUCCESS; }

check() { # what, command: PASS or FAIL
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "PASS  $what"
    else
        echo "FAIL  $what"
        echo "      ${output//$'\n'/$'\n      '}"
        failures=$((failures + 1))
    fi
}

same() { [ "$1" = "$2" ] || { echo "expected $2, got $1"; return 1; }; }

all_stored() { # nothing waits in a journal or in the queue
    for _ in $(seq 300); do
        execution-logger status --json | python -c '
import json, sys
status = json.load(sys.stdin)
sys.exit(bool(status["journal"]["facts"]["entries"] or status["broker"]["facts"].get("waiting")))' && return
        sleep 0.2
    done
    return 1
}

# --- the phases

phase_old() {
    CELERY_ENABLED=false start web "Uvicorn running"
    local answer
    answer=$(begin damages)
    check "without Celery an analysis runs in the web process" same "$(of task_system <<<"$answer")" background_tasks
    check "it has no task of Celery's" same "$(of celery_task_id <<<"$answer")" ""
    check "it completes" completes "$(of session_id <<<"$answer")"
    check "a task is refused, with 503" same "$(code POST 'tasks/add?x=2&y=3')" 503
    stop web
}

phase_celery() {
    local answer document
    document=$(call POST tasks/process-document '{"document_id": "contract", "text": "On 2024-03-01 for 120,000"}')
    check "a document is kept, from the queue document" succeeds "$(of task_id <<<"$document")"
    answer=$(begin damages '["contract"]')
    check "an analysis is sent to Celery" same "$(of task_system <<<"$answer")" celery
    check "it completes" completes "$(of session_id <<<"$answer")"
    check "its task has succeeded" succeeds "$(of celery_task_id <<<"$answer")"
    check "a task of the queue example succeeds" succeeds \
        "$(call POST 'tasks/example?name=tea&seconds=1' | of task_id)"
    answer=$(call POST 'tasks/add?x=2&y=3' | of task_id)
    check "a task adds two numbers" reaches "tasks/status/$answer" result 5.0
    [ "$own_host" = no ] || check "the shell calls tasks.health_check" succeeds \
        "$(cd "$work" && celery -A analysis_host.tasks call tasks.health_check)"
    check "an unknown session is 404" same "$(code GET litigation-analysis/status/nothing)" 404
    check "an unknown task is 404" same "$(code GET tasks/status/nothing)" 404
    check "a bad body is 422" same "$(code POST litigation-analysis/start '{}')" 422
    check "a wrong token is 401" same "$(TOKEN=wrong code GET notifications)" 401
}

phase_faults() {
    local answer session
    session=$(begin '[slow=1] damages' | of session_id)
    follow "$session" 2 >"$work/left" 2>/dev/null
    check "an analysis goes on when its client has left" completes "$session"
    check "a client that comes back reads all of it" comes_back "$session"
    [ "$own_host" = yes ] || return
    session=$(begin '[slow=1] damages' | of session_id)
    passes "$session" 0
    pkill -KILL -P "${pids[high]}"
    check "an analysis whose worker's process is killed completes" completes "$session"
    session=$(begin '[slow=1] damages' | of session_id)
    passes "$session" 0
    stop high
    start high ready
    check "a worker that is restarted ends its analysis before" completes "$session"
    session=$(begin '[slow=1] damages' | of session_id)
    passes "$session" 0
    stop redis
    answer=$(begin damages)
    check "while Redis is stopped an analysis runs in the web process" \
        same "$(of task_system <<<"$answer")" background_tasks
    check "it completes" completes "$(of session_id <<<"$answer")"
    start_redis
    check "the one that ran when Redis stopped completes" completes "$session"
    answer=$(begin damages)
    check "when Redis is back an analysis is sent to Celery" same "$(of task_system <<<"$answer")" celery
    check "it completes" completes "$(of session_id <<<"$answer")"
    check "every entry of the log is stored" all_stored
}

comes_back() {
    follow "$1" 600 >"$work/back" || return
    grep -q "event: completed" "$work/back" || return
    # What it had read before is the beginning of what it reads now.
    same "$(head -c "$(stat -c %s "$work/left")" "$work/back")" "$(cat "$work/left")"
}

phase_load() {
    local sessions=() session before after many
    for _ in $(seq 10); do sessions+=("$(begin damages | of session_id)"); done
    for session in "${sessions[@]}"; do completes "$session" >"$work/session" || break; done
    check "ten analyses at once complete" completes "$session"
    many=$(python -c 'import json; print(json.dumps([f"document-{n}" for n in range(600)]))')
    session=$(begin damages "$many" | of session_id)
    passes "$session" 24
    [ "$own_host" = no ] || before=$(memory)
    check "one long analysis, of 600 documents, completes" completes "$session"
    [ "$own_host" = yes ] || return
    after=$(memory)
    check "its worker and the web process stay within 10 MB of $((before / 1024)) MB" \
        test $((after - before)) -lt 10240
    check "every entry of the log is stored" all_stored
}

memory() { # kB of the web process and of the worker that long analyses go to
    ps -o rss= --pid "${pids[web]},${pids[medium]}" --ppid "${pids[medium]}" | awk '{ sum += $1 } END { print sum }'
}

if [ "$own_host" = yes ]; then
    redis_port=$(port)
    PORT=$(port)
    mkdir "$work/results"
    URL=http://127.0.0.1:$PORT
    TOKEN=of-the-check
    export PORT API_TOKEN=$TOKEN DATA_DIRECTORY=$work PYTHONUNBUFFERED=1 ANALYSIS_STEP_SECONDS=0.1
    export PYTHONPATH="$root/examples${PYTHONPATH:+:$PYTHONPATH}"
    export CELERY_BROKER_URL=redis://127.0.0.1:$redis_port/0 CELERY_RESULT_BACKEND=redis://127.0.0.1:$redis_port/1
    export CELERY_TASK_TIME_LIMIT=${CELERY_TASK_TIME_LIMIT:-60}
    export DATABASE_URL=${DATABASE_URL:-sqlite:///$work/host.db}
    export EXECUTION_LOGGER_JOURNAL_DIRECTORY=$work/journal EXECUTION_LOGGER_SERVICE_DIRECTORY=$work/services
    execution-logger db upgrade >/dev/null || exit 2
fi
[ $# -gt 0 ] || set -- old celery faults load
has_workers=no
for phase in "$@"; do
    echo "--- $phase"
    if [ "$phase" = old ]; then
        [ "$own_host" = no ] || phase_old
        continue
    fi
    if [ "$own_host$has_workers" = yesno ]; then
        start_workers
        has_workers=yes
    fi
    "phase_$phase"
done
echo "--- $failures failed"
exit $((failures > 0))
