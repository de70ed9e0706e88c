module devplane.local/fixed-answer-llm

go 1.26.0
