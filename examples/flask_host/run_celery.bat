@echo off
rem Starts the host's own worker on Windows, where processes cannot fork: with --pool=solo, one run at a time.
rem For more at once start it several times, each with a name of its own: run_celery.bat 2
cd /d "%~dp0\..\.."
if not defined CELERY_BROKER_URL set CELERY_BROKER_URL=redis://localhost:6379/0
if not defined DATABASE_URL set DATABASE_URL=postgresql://postgres@localhost/postgres
if not defined PORT set PORT=8000
if "%~1"=="" (set WORKER=1) else set WORKER=%~1
set PYTHONPATH=%CD%\examples;%PYTHONPATH%
.venv\Scripts\celery -A flask_host.tasks worker --pool=solo --queues tests --hostname tests-%WORKER%@%%h --loglevel INFO
