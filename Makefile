# Targets that people and CI call. `make help` lists them.
PYTHON ?= python3.11
PLAN ?= params.yaml
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/installed-$(shell cat pyproject.toml requirements.lock | cksum | cut -d' ' -f1)
# Paths may hold spaces, which make's own functions split at: the shell takes them apart, and every recipe quotes them.
NAME := $(shell name="$(PLAN)"; name="$${name##*/}"; echo "$${name%.*}")
OWN_PLAN := $(subst params.yaml,,$(PLAN))# empty for the default
WORKSPACE := $(if $(OWN_PLAN),runs/$(NAME),.)

export OMP_NUM_THREADS ?= 1
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help install repro smoke plan test check ui lock publish pages measurement-study profiles-accuracy methods peers planted-faults clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

install: $(STAMP) ## virtual environment with everything in it

$(STAMP): pyproject.toml requirements.lock
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name yours with PYTHON=..." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	"$(BIN)/python" -m pip install --quiet --prefer-binary -r requirements.lock
	"$(BIN)/python" -m pip install --quiet --no-deps --no-build-isolation -e .
	rm -f $(VENV)/installed-*
	touch $(STAMP)

STAGE :=# from the command line alone: the environment may hold a STAGE of something else
repro: $(STAMP) workspace ## the main job: every stage of PLAN (params.yaml unless named), or those up to STAGE
	cd "$(WORKSPACE)" && PATH="$(BIN):$$PATH" dvc repro $(STAGE)

smoke: ## the whole path in a few minutes
	$(MAKE) repro PLAN=plans/smoke.yaml

plan: $(STAMP) workspace ## what a run of PLAN would do, and how long
	cd "$(WORKSPACE)" && PATH="$(BIN):$$PATH" dvc repro --quiet prepare && "$(BIN)/sixfold" plan

# A plan other than params.yaml runs the same pipeline in a folder of its own, a small DVC project beside the main one.
.PHONY: workspace
workspace: $(STAMP)
ifneq ($(WORKSPACE),.)
	@test -f "$(PLAN)" || { echo "PLAN=$(PLAN): no such file; have $$(ls plans/*.yaml | tr '\n' ' ')" >&2; exit 2; }
	@mkdir -p "$(WORKSPACE)"
	@cp dvc.yaml "$(WORKSPACE)/dvc.yaml"
	@ln -sfn "$$(realpath "$(PLAN)")" "$(WORKSPACE)/params.yaml"
	@test -d "$(WORKSPACE)/.dvc" || (cd "$(WORKSPACE)" && PATH="$(BIN):$$PATH" dvc init --no-scm --quiet && PATH="$(BIN):$$PATH" dvc config core.analytics false)
endif

RUNS_PAGE = http://127.0.0.1:5000/\#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=$(SWEEP)
SWEEP = $(shell sed -n 's/^sweep: *\([^ \#]*\).*/\1/p' "$(WORKSPACE)/params.yaml")
ui: $(STAMP) ## MLflow's pages of PLAN's runs, on http port 5000
	@echo "accuracy against latency: $(RUNS_PAGE)&compareRunsMode=CHART"
	@echo "as a table: $(RUNS_PAGE)"
	cd "$(WORKSPACE)" && "$(BIN)/mlflow" server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

check: $(STAMP) ## linter and types
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"

TEST_WORKERS ?= 2
test: $(STAMP) ## all tests, by TEST_WORKERS processes
	"$(BIN)/python" -m pytest -n $(TEST_WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: test-transformers
test-transformers: $(STAMP) ## tests of detectors of the transformers library, which it installs
	"$(BIN)/python" -m pip install --quiet --constraint requirements.lock "$$("$(BIN)/python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["transformers"])')"
	"$(BIN)/python" -m pytest tests/detection/transformers tests/compressors/nas/test_nas_transformers.py tests/flows/grid/test_stage_transformers.py

ONLY ?=
planted-faults: $(STAMP) ## do the tests catch the faults of tests/planted_faults? about 20 minutes; ONLY="name name" for some
	"$(BIN)/python" -m tests.planted_faults.run $(if $(ONLY),--only $(ONLY))

lock: ## write requirements.lock from the versions installed now
	"$(BIN)/python" -m pip freeze --exclude-editable --exclude sixfold | sed -e 's/+cpu$$//' -e 's/^mlcommons_loadgen==.*/&; platform_machine == "x86_64"/' > requirements.lock

NOTE ?=
RAN_AT ?= $(shell git rev-parse --short HEAD)
publish: $(STAMP) ## copy the records of PLAN's run to docs/results/ and rewrite docs/results.md; RAN_AT=commit of the run, NOTE="..."
	"$(BIN)/python" -m flows.publish.page "$(WORKSPACE)" "git checkout $(RAN_AT) && make repro$(if $(OWN_PLAN), PLAN=$(PLAN))" "$(NOTE)"

pages: $(STAMP) ## rewrite the pages in docs/ and the README from the committed results, after a change of words
	"$(BIN)/python" -m flows.publish.page
	for study in measurement profiles methods $(if $(wildcard docs/peers.json),peers); do "$(BIN)/python" -m studies.$$study rewrite || exit; done

STUDY_RUN := $(if $(OWN_PLAN),$(WORKSPACE),runs/bccd)
STUDY_ORIGIN := make measurement-study$(if $(OWN_PLAN), PLAN=$(PLAN))
measurement-study: $(STAMP) ## does measured latency hold? docs/measurement.md, from runs/bccd or PLAN's run; an hour on an idle machine
	"$(BIN)/python" -m studies.measurement observe --run "$(STUDY_RUN)"
	"$(BIN)/python" -m studies.measurement page --command "$(STUDY_ORIGIN)"

profiles-accuracy: $(STAMP) ## how good are the estimates? docs/profiles.md, from runs/bccd or PLAN's run; minutes
	"$(BIN)/python" -m studies.profiles accuracy --run "$(STUDY_RUN)" --command "make profiles-accuracy$(if $(OWN_PLAN), PLAN=$(PLAN))"

METHODS_PLAN := $(if $(OWN_PLAN),$(PLAN),plans/methods.yaml)
METHODS_RUN := $(if $(OWN_PLAN),$(WORKSPACE),runs/methods)
methods: $(STAMP) ## what does each method do alone? docs/methods.md, from plans/methods.yaml or PLAN; hours at first, minutes from the store
	$(MAKE) repro PLAN="$(METHODS_PLAN)"
	"$(BIN)/python" -m studies.methods seeds --run "$(METHODS_RUN)"
	"$(BIN)/python" -m studies.methods siblings --run "$(METHODS_RUN)"
	"$(BIN)/python" -m studies.methods page --run "$(METHODS_RUN)" --command "git checkout $(RAN_AT) && make methods$(if $(OWN_PLAN), PLAN=$(PLAN))"

peers: $(STAMP) ## what do other tools make of the same checkpoint? docs/peers.md, from runs/bccd or PLAN's run; hours, then an idle machine
	"$(BIN)/python" -m studies.peers make "$(STUDY_RUN)"
	"$(BIN)/python" -m studies.peers measure "$(STUDY_RUN)"
	"$(BIN)/python" -m studies.peers page "$(STUDY_RUN)" --command "make peers$(if $(OWN_PLAN), PLAN=$(PLAN))"

clean: ## remove what runs made (the virtual environment stays)
	rm -rf .sixfold runs data/prepared models results/cells.json results/latency.json results/seeds.json results/environment.json results/inputs results/report results/check results/crash-*.log mlflow.db* mlartifacts
