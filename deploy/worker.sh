# A worker of pool gpu, one flow run at a time, once the server answers; another one when it ends.
if [ -n "$PREFECT_SERVER_API_AUTH_STRING" ]; then
    export PREFECT_API_AUTH_STRING="$PREFECT_SERVER_API_AUTH_STRING"
fi
trap 'exit 0' TERM INT      # the worker gets the signal as well, and is waited for
until python -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' \
    "$PREFECT_API_URL/health" 2>/dev/null; do sleep 1; done
while :; do
    prefect worker start --pool gpu --type process --limit 1
    echo "the worker ended with status $?; starting another in 5 s"
    sleep 5
done
