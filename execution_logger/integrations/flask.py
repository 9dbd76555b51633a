"""A Flask extension: the check at the start, and the context of each request.

>>> app = Flask(__name__)
>>> FlaskLogger(app, operation=True)
"""

from typing import Any

from flask import Flask, Request, Response, g, request

from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.integrations.requests import TaskId, request_context


class FlaskLogger:
    """Fills in `method`, `path` and `request_id` for all that a request records.

    The end needs no call: a process that ends delivers what waits.

    Args:
        app: the application; or call `init_app` later.
        logger: records the operations.
        operation: make each request an operation, with the status and the route in the details of its end.
        task_id: tells the run of a request: the name of a header, or a function of Flask's request.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        logger: ExecutionLogger = execution_logger,
        operation: bool = False,
        task_id: TaskId[Request] = None,
    ) -> None:
        self._logger = logger
        self._operation = operation
        self._task_id = task_id
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Check the settings, and follow the application's requests.

        Raises:
            SettingsError: naming every variable that cannot be used, its value and what is allowed.
        """
        self._logger.sync.start()
        app.extensions["execution_logger"] = self
        app.before_request(self._begin)
        app.after_request(self._note)
        app.teardown_request(self._end)

    def _begin(self) -> None:
        entered = request_context(
            self._logger, request, request.headers.get,
            method=request.method, path=request.path, operation=self._operation, task_id=self._task_id,
        )  # fmt: skip
        g.execution_logger_timer = entered.__enter__()
        g.execution_logger_context = entered

    def _note(self, response: Response) -> Response:
        timer = g.get("execution_logger_timer")
        if timer is not None:
            route = None if request.url_rule is None else request.url_rule.rule
            timer.set_details({"status": response.status_code, "route": route})
        return response

    def _end(self, error: BaseException | None) -> None:
        entered: Any = g.pop("execution_logger_context", None)
        if entered is None:  # a function before ours has answered
            return
        try:
            entered.__exit__(None if error is None else type(error), error, None)
        except BaseException as raised:
            if raised is not error:
                raise
