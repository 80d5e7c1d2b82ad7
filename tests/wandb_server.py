"""A small stand-in for a W&B server on loopback: enough for the real client to log runs to it."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no error of the server's."""


class WandbServer:
    """Collects what clients send. A context manager; `url` is its address.

    `fault` is what it does instead: "hang" takes requests and never answers, "drop" hangs up, a
    number is the status of every answer.
    """

    def __init__(self) -> None:
        self.history: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        self.summary: dict[str, dict[str, Any]] = {}
        self.upserts: list[dict[str, Any]] = []
        self.complete: set[str] = set()
        self.producers: dict[str, list[str]] = defaultdict(list)
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.charts: dict[str, Any] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.buckets: dict[str, dict[str, Any]] = defaultdict(dict)
        self.resumes: list[dict[str, Any]] = []
        self.fault: str | int | None = None
        self.stopped = threading.Event()
        self.http = _Quiet(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Goes away: nothing listens any more."""
        self.stopped.set()
        self.http.shutdown()
        self.http.server_close()

    def rows(self, run: str) -> list[dict[str, Any]]:
        return [row for _, row in sorted(self.history[run].items())]

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            self.upserts.append(variables)
            known = {key: value for key, value in variables.items() if value is not None}
            self.buckets[variables["name"]].update(known)
            return {"upsertBucket": {"bucket": self._bucket(variables), "inserted": True}}
        if "createRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"{self.url}/storage/{name}"}
                for name in variables.get("files", [])
            ]
            run = variables.get("run", "run")
            return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}
        if "viewer" in query:
            viewer = {
                "id": "1",
                "entity": "team",
                "username": "me",
                "flags": "{}",
                "teams": {"edges": []},
                "apiKeys": {"edges": []},
            }
            return {"viewer": viewer}
        if "serverInfo" in query:
            return {"serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}}
        if "createArtifact(" in query:
            return {"createArtifact": self._artifact(variables.get("input", variables))}
        if "ArtifactByID" in query:
            return {"artifact": self._kept(variables["id"])}
        if "query Run(" in query:
            return {"project": {"internalId": "1", "run": self._node(variables["name"], {})}}
        if "createCustomChart" in query:
            self.charts[variables["chartName"]] = json.loads(variables["spec"])
            return {"createCustomChart": {"chart": {"id": variables["chartName"]}}}
        if "upsertView" in query:
            return {"upsertView": self._save_view(variables)}
        if "allViews" in query:
            return {"project": {"allViews": self._views(variables)}}
        if "projects(" in query or "models(" in query:
            page = {"endCursor": None, "hasNextPage": False}
            node = {
                "id": "1",
                "name": "p",
                "entityName": "team",
                "user": None,
                "createdAt": "2026-01-01T00:00:00",
                "isBenchmark": False,
            }
            return {"models": {"edges": [{"node": node, "cursor": "1"}], "pageInfo": page}}
        if "ProjectInternalId" in query:
            return {"project": {"id": "1", "internalId": "1"}}
        if "HistoryPage" in query:
            first, last = variables["minStep"], variables["maxStep"]
            rows = self.rows(variables["run"])
            page = [json.dumps(row) for row in rows if first <= row["_step"] < last]
            return {"project": {"run": {"history": page}}}
        if "RunHistoryKeys" in query:
            node = self._node(variables["name"], self.buckets[variables["name"]])
            return {"project": {"run": {"historyKeys": node["historyKeys"]}}}
        if "parquetHistory" in query:
            # Nothing is exported yet: the client asks for every row.
            live = [{"_step": row["_step"]} for row in self.rows(variables["runName"])]
            return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}
        if " runs(" in query:
            return {"project": self._runs(variables)}
        if "model(" in query or "project(" in query:
            return {"model": self._resumed(variables), "project": None}
        return {}

    def _bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"name": variables.get("project", "p"), "entity": {"name": "team"}}
        return {
            "id": "x",
            "name": variables.get("name"),
            "displayName": None,
            "project": project,
            "description": "",
            "config": "{}",
            "sweepName": None,
            "summaryMetrics": "{}",
            "historyLineCount": len(self.history[variables.get("name", "")]),
        }

    def _artifact(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Takes an artifact as one whose files it has already."""
        name = wanted.get("artifactCollectionName") or wanted["artifactCollectionNames"][0]
        self.artifacts.setdefault(name, wanted)
        self.producers[name].append(wanted["runName"])
        known = {"id": name, "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
        return {"artifact": {"__typename": "Artifact", **known}}

    def _kept(self, name: str) -> dict[str, Any]:
        wanted = self.artifacts[name]
        project = {
            "id": "1",
            "internalId": "1",
            "name": wanted["projectName"],
            "entity": {"name": "team"},
        }
        return {
            "id": name,
            "artifactSequence": {"name": name, "project": project},
            "versionIndex": 0,
            "artifactType": {"name": wanted["artifactTypeName"]},
            "description": None,
            "metadata": None,
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": 1,
            "digest": wanted["digest"],
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": "c",
            "fileCount": 1,
            "createdAt": "2026-01-01T00:00:00",
            "updatedAt": None,
            "aliases": [],
        }

    def _save_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        known = variables.get("id") or f"view{len(self.views)}"
        inserted = known not in self.views
        project = {"id": "1", "name": variables["projectName"], "entityName": "team"}
        dates = dict.fromkeys(("createdAt", "updatedAt"), "2026-01-01T00:00:00")
        self.views[known] = {**variables, "id": known, "project": project, **dates}
        return {"view": self.views[known], "inserted": inserted}

    def _views(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The views of a type, and of a name where the client gives one."""
        name = variables.get("viewName")
        found = [
            view | {"user": None}
            for view in self.views.values()
            if view["type"] == variables.get("viewType", "runs") and name in (None, view["name"])
        ]
        page = {"endCursor": None, "hasNextPage": False}
        return {"edges": [{"node": v, "cursor": v["id"]} for v in found], "pageInfo": page}

    def _runs(self, variables: dict[str, Any]) -> dict[str, Any] | None:
        """The finished runs of a project that pass the client's filters."""
        wanted = json.loads(variables["filters"])
        names = {"group": "groupName", "jobType": "jobType"}
        found = {
            run: bucket
            for run, bucket in self.buckets.items()
            if bucket.get("project") == variables["project"]
            and all(bucket.get(names[k]) == v for k, v in wanted.items() if k in names)
        }
        if not any(b.get("project") == variables["project"] for b in self.buckets.values()):
            return None
        edges = [{"node": self._node(run, bucket), "cursor": run} for run, bucket in found.items()]
        page = {"endCursor": None, "hasNextPage": False}
        return {
            "internalId": "1",
            "runCount": len(edges),
            "readOnly": False,
            "runs": {"edges": edges, "pageInfo": page},
        }

    def _node(self, run: str, bucket: dict[str, Any]) -> dict[str, Any]:
        last = max((row["_step"] for row in self.rows(run)), default=-1)
        return {
            "id": run,
            "projectId": "1",
            "tags": [],
            "name": run,
            "displayName": run,
            "sweepName": None,
            "state": "finished" if run in self.complete else "running",
            "config": bucket.get("config", "{}"),
            "group": bucket.get("groupName"),
            "jobType": bucket.get("jobType"),
            "commit": None,
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00Z",
            "heartbeatAt": "2026-01-01T00:00:00Z",
            "description": None,
            "notes": None,
            "systemMetrics": "{}",
            "summaryMetrics": json.dumps(self.summary.get(run, {})),
            "historyLineCount": len(self.history[run]),
            "user": {"name": "me", "username": "me"},
            "historyKeys": {"lastStep": last, "keys": {}},
        }

    def _resumed(self, variables: dict[str, Any]) -> dict[str, Any] | None:
        """What a client asks that resumes a run: how far it has come."""
        self.resumes.append(variables)
        name = variables.get("name", "")
        if name not in self.history:
            return None
        rows = self.rows(name)
        bucket = self._bucket(variables) | {
            "logLineCount": 0,
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "tags": [],
            "historyTail": json.dumps([json.dumps(rows[-1])] if rows else []),
            "summaryMetrics": json.dumps(self.summary.get(name, {})),
            "wandbConfig": '{"t": 1}',
        }
        return {"bucket": bucket}

    def stream(self, run: str, body: dict[str, Any]) -> None:
        for name, part in body.get("files", {}).items():
            for number, line in enumerate(part["content"], part.get("offset", 0)):
                if name == "wandb-history.jsonl":
                    self.history[run][number] = json.loads(line)
                elif name == "wandb-summary.json":
                    self.summary[run] = json.loads(line)
        if body.get("complete"):
            self.complete.add(run)

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    raw = gzip.decompress(raw)
                if self.faulty():
                    return
                body = json.loads(raw or b"{}")
                stream = re.match(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
                if stream:
                    server.stream(stream[1], body)
                    self.answer({"limits": {}})
                else:
                    data = server.graphql(body.get("query", ""), body.get("variables") or {})
                    self.answer({"data": data})

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not self.faulty():
                    self.answer({})

            def do_GET(self) -> None:
                if not self.faulty():
                    self.answer({})

            def faulty(self) -> bool:
                if server.fault == "hang":
                    server.stopped.wait()
                elif isinstance(server.fault, int):
                    self.answer({"errors": [{"message": "no"}]}, server.fault)
                self.close_connection = server.fault in ("hang", "drop")
                return server.fault is not None

            def answer(self, body: dict[str, Any], status: int = 200) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
