"""Questions with known answers: asked of a model under a policy, scored, and compared with the unpruned model.

A question set is the bundled one (`demo_questions`) or the user's own file (`read_questions`).
"""
