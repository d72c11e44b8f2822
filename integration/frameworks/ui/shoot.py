"""shoot.py URL FILE WORD… opens the page in Chromium, takes a screenshot again and again until all words can be read in it, and keeps
that one. The page is a canvas, so what is read is what a person sees: the words are found by tesseract."""
import asyncio
import base64
import itertools
import os
import subprocess
import sys
import tempfile

import aiohttp

ATTEMPTS = 100


def start(profile):
    # Only this machine is asked: the page names a font elsewhere.
    return subprocess.Popen(
        ["chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--window-size=1400,900",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}", "about:blank"],
        stderr=subprocess.DEVNULL)


async def debugger(session, profile):
    for _ in range(ATTEMPTS):
        await asyncio.sleep(0.2)
        if os.path.exists(f"{profile}/DevToolsActivePort"):
            with open(f"{profile}/DevToolsActivePort") as file:
                port = file.readline().strip()
            async with session.get(f"http://127.0.0.1:{port}/json/list") as pages:
                return (await pages.json())[0]["webSocketDebuggerUrl"]
    sys.exit("Chromium does not answer")


async def shoot(socket, url, file, words):
    numbers = itertools.count(1)

    async def call(method, **parameters):
        number = next(numbers)
        await socket.send_json({"id": number, "method": method, "params": parameters})
        while (answer := await socket.receive_json()).get("id") != number:
            pass
        return answer["result"]

    await call("Page.navigate", url=url)
    text = ""
    for _ in range(ATTEMPTS):
        await asyncio.sleep(0.5)
        image = await call("Page.captureScreenshot", format="png")
        with open(file, "wb") as png:
            png.write(base64.b64decode(image["data"]))
        text = subprocess.run(["tesseract", file, "-", "--psm", "6"], capture_output=True, text=True).stdout
        if all(word in text for word in words):
            return print(text)
    sys.exit(f"the page does not show all of {words}, but:\n{text}")


async def main(url, file, *words):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        chromium = start(profile)
        try:
            async with aiohttp.ClientSession() as session:
                async with session.ws_connect(await debugger(session, profile), max_msg_size=0) as socket:
                    await shoot(socket, url, file, words)
        finally:
            chromium.kill()
            chromium.wait()


asyncio.run(main(*sys.argv[1:]))
