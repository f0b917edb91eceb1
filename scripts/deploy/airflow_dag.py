"""coinetl on Airflow 2.10+ and 3.x: two DAGs of the same four steps, db-setup, assets upsert, prices insert,
candles rollup.

Copy this file into the DAGs folder. What it takes from the worker's (and the DAG processor's) environment:

  COINETL_BIN          the binary; default: coinetl in the PATH
  COINETL_DIR          the folder to run in, with .env and, for SQLite, the database; default: Airflow's own
  COINETL_RETRIES      how often a step that ends with 75 is tried again; default: 3
  COINETL_RETRY_DELAY  seconds before each of them; default: 600

DATABASE_URL and the keys are best put there too (or into .env), not into this file: a command's text is shown in
the web pages. With more than one worker the database must be a server, not a SQLite file.

A step's exit code decides what becomes of its task:

  0               success
  3               success with a warning in its log: part is stored, part not. Its report says "status":"partial"
  75 (or killed)  up for retry, after a pause
  1, 2, 78        failed at once, whatever retries are left: it would end the same way until somebody looks

A step's report, a JSON object with all counts, is its XCom `return_value`. Tested by scripts/deploy/test-airflow.
"""

from __future__ import annotations

import os
import shlex
from datetime import datetime, timedelta, timezone

try:  # Airflow 3
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
try:  # Airflow 3.1 and newer
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:
    from airflow.exceptions import AirflowFailException, AirflowSkipException
try:  # Airflow 3, and 2 with the provider `standard`
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:
    from airflow.operators.bash import BashOperator

BIN = os.environ.get("COINETL_BIN", "coinetl")
DIR = os.environ.get("COINETL_DIR") or None
RETRIES = int(os.environ.get("COINETL_RETRIES", "3"))
RETRY_DELAY = timedelta(seconds=float(os.environ.get("COINETL_RETRY_DELAY", "600")))

PARTIAL = 3
HOPELESS = (1, 2, 78)


class CoinetlOperator(BashOperator):
    """One command of coinetl, with its exit codes in Airflow's words."""

    def __init__(self, *, command: str, **kwargs) -> None:
        # The last line of stdout becomes the XCom: the step's report, one JSON object.
        script = (
            f"code=0; {shlex.quote(BIN)} {command} --output json || code=$?; "
            f"if [ $code -eq {PARTIAL} ]; then exit 0; fi; exit $code"
        )
        # BashOperator has no list of codes that fail without a retry, but one of codes that skip; see execute().
        super().__init__(bash_command=script, cwd=DIR, skip_on_exit_code=HOPELESS, **kwargs)

    def execute(self, context):
        try:
            result = super().execute(context)
        except AirflowSkipException as err:
            raise AirflowFailException(f"not tried again: {err}") from err
        if '"status":"partial"' in str(result).replace(" ", ""):
            self.log.warning("part is stored, part not: see the tables runs and dead_letters; %s", result)
        return result


def coinetl_dag(dag_id: str, schedule: str, options: str, description: str) -> DAG:
    with DAG(
        dag_id=dag_id,
        description=description,
        schedule=schedule,
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
        # The source tells the present only: runs of the past would store it once more.
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": RETRIES,
            "retry_delay": RETRY_DELAY,
            "execution_timeout": timedelta(minutes=45),
        },
        tags=["coinetl"],
        doc_md=__doc__,
    ) as dag:
        db_setup = CoinetlOperator(task_id="db_setup", command="db-setup")
        assets_upsert = CoinetlOperator(task_id="assets_upsert", command="assets upsert")
        prices_insert = CoinetlOperator(task_id="prices_insert", command=f"prices insert {options}".strip())
        candles_rollup = CoinetlOperator(task_id="candles_rollup", command="candles rollup --wait 2m")
        db_setup >> assets_upsert >> prices_insert >> candles_rollup
    return dag


# What it costs: see `crontab` in the repository's folder, or ask `coinetl plan`. Times are UTC.
coinetl_top = coinetl_dag("coinetl_top", "7 * * * *", "--top 1000", "prices of the top 1,000 coins, hourly")
coinetl_all = coinetl_dag("coinetl_all", "37 4 * * *", "", "prices of all coins, daily")
