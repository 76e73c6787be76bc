#!/bin/sh
# State of one PBS job in the words of Snakemake: running, success or failed.
state=$(qstat -x -f "$1" 2>/dev/null) || { echo running; exit; }
case "$state" in
*"job_state = F"* | *"job_state = X"*)
    case "$state" in
    *"Exit_status = 0"*) echo success ;;
    *) echo failed ;;
    esac
    ;;
*) echo running ;;
esac
