@echo off
rem Starts the worker on Windows; options are those of `execution-logger worker`.
cd /d "%~dp0.."
if not defined VIRTUAL_ENV if exist .venv\Scripts\activate.bat call .venv\Scripts\activate.bat
execution-logger worker --pool threads %*
