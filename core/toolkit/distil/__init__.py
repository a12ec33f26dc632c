"""The distillation engine: it is handed modules and batches, and never asks which modality they carry."""
