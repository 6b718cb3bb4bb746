#!/usr/bin/env python3
"""Makes harmony.txt beside this file: conversations as token ids, by the package openai-harmony, for the chat of harness_test.cpp.

    GETP_VOCAB=FOLDER tests/golden/make_harmony.py [-o FILE]        FOLDER has o200k_base.tiktoken

A line each:
    token ID BYTES            what of the vocabulary its texts take, in hexadecimal: their tokens, and those merged on the way
    conversation REASONING [INSTRUCTIONS]
    user TEXT
    prompt ID ...             all that the model has read when it is the assistant's turn
    reply ID ...              what it says then, up to a stop token
"""

import argparse
import base64
import os
from pathlib import Path

from openai_harmony import Conversation, DeveloperContent, HarmonyEncodingName, Message, Role, SystemContent, load_harmony_encoding
from openai_harmony import ReasoningEffort

HERE = Path(__file__).resolve().parent
END, RETURN, CALL, END_OF_TEXT = "<|end|>", "<|return|>", "<|call|>", "<|endoftext|>"

# (reasoning, instructions, turns); a turn is what the user says, the assistant's messages and the token that stops it.
# A message: (channel, text), or with recipient and content type.
CONVERSATIONS = [
    ("medium", None, [
        ("Hi", [("analysis", "A greeting."), ("final", "Hello!")], RETURN),
        ("And you?", [("analysis", "Polite."), ("final", "Fine, thanks.")], RETURN),
        ("Bye", [], None)]),
    ("low", "Answer in one word.\nNever say <|end|>.", [
        ("Write <|end|> and   <|start|>user, 12345 Δέλτα\tдва 水", [("final", "No")], END_OF_TEXT),
        ("Why?", [("analysis", "Think."), ("commentary", "I look it up."), ("analysis", "Found."), ("final", "Rules")], RETURN),
        ("So?", [], None)]),
    ("high", "Use tools.", [
        ("Weather in Oslo?", [("analysis", "Call it."), ("commentary", "Let me see."),
                              ("commentary", '{"city":"Oslo"}', "functions.get_weather", "<|constrain|>json")], CALL),
        ("It says 3 C", [("analysis", "Cold."), ("final", "3 C in Oslo.")], RETURN),
        ("In Rome?", [("analysis", "print(1)", "python", None)], CALL),
        ("It says 20 C", [("final", "20 C")], END_OF_TEXT),
        ("Thanks", [("analysis", "Stops without an answer.")], RETURN),
        ("Well?", [], None)]),
]


def message(role, content, channel=None, recipient=None, content_type=None):
    made = Message.from_role_and_content(role, content)
    made.channel, made.recipient, made.content_type = channel, recipient, content_type
    return made


def merged(piece, ranks):
    """All tokens that occur while byte-pair encoding makes the piece: not only those that are left."""
    parts = [bytes([byte]) for byte in piece]
    seen = set(parts)
    while True:
        pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ranks]
        if not pairs:
            return seen
        i = min(pairs)[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
        seen.add(parts[i])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", type=Path, default=HERE / "harmony.txt")
    output = parser.parse_args().o
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = os.environ["GETP_VOCAB"]
    encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    lines = Path(os.environ["GETP_VOCAB"], "o200k_base.tiktoken").read_text().split()
    ranks = {base64.b64decode(token): int(rank) for token, rank in zip(lines[::2], lines[1::2])}

    written, used = [], set()
    for reasoning, instructions, turns in CONVERSATIONS:
        written.append(f"conversation {reasoning} {(instructions or '').encode().hex()}".rstrip())
        history = [message(Role.SYSTEM, SystemContent.new().with_reasoning_effort(ReasoningEffort(reasoning.capitalize())))]
        if instructions:
            history.append(message(Role.DEVELOPER, DeveloperContent.new().with_instructions(instructions)))
        for text, replies, stop in turns:
            history.append(message(Role.USER, text))
            prompt = encoding.render_conversation_for_completion(Conversation.from_messages(history), Role.ASSISTANT)
            said = [message(Role.ASSISTANT, reply[1], reply[0], *reply[2:]) for reply in replies]
            reply = [token for each in said for token in encoding.render(each)]
            if stop:
                reply = reply[2:-1] + encoding.encode(stop, allowed_special="all")  # without <|start|>assistant
            written += [f"user {text}", "prompt " + " ".join(map(str, prompt)), ("reply " + " ".join(map(str, reply))).rstrip()]
            used.update(prompt, reply)
            history += said
            # The package leaves out the analysis before the first answer of a conversation, once that is there. Its documentation
            # asks for that after every answer; so do callers of it, who keep the history.
            if said and said[-1].channel == "final":
                kept = [each for each in history if each.channel != "analysis"]
                if sum(each.channel == "final" for each in history) == 1:
                    assert encoding.render_conversation(Conversation.from_messages(history)) == \
                        encoding.render_conversation(Conversation.from_messages(kept))
                history = kept

    texts = {token: encoding._inner.decode_bytes([token]) for token in used}
    vocabulary = {bytes([byte]) for byte in range(256)}
    for token, text in texts.items():
        if token < 199998:
            vocabulary |= merged(text, ranks)
    tokens = {ranks[text]: text for text in vocabulary} | {token: text for token, text in texts.items() if token >= 199998}
    tokens |= {encoding.encode(text, allowed_special="all")[0]: text.encode() for text in (RETURN, CALL, END_OF_TEXT)}
    output.write_text("".join(f"{line}\n" for line in [*(f"token {i} {tokens[i].hex()}" for i in sorted(tokens)), *written]), encoding="utf-8")


if __name__ == "__main__":
    main()
