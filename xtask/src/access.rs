// [cli] What a screen reader sees and does: a session bus of its own, AT-SPI's objects by name, value and action.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use zbus::{
    Connection, Message, block_on,
    connection::Builder,
    zvariant::{OwnedObjectPath, OwnedValue, Value},
};

const REGISTRY: &str = "org.a11y.atspi.Registry";
const ROOT: &str = "/org/a11y/atspi/accessible/root";
const ACCESSIBLE: &str = "org.a11y.atspi.Accessible";
const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const VALUE: &str = "org.a11y.atspi.Value";
const ACTION: &str = "org.a11y.atspi.Action";
/// Time for what goes over the bus and through a window, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Objects that a walk goes through at most.
const MOST: usize = 5_000;

/// A session bus, for as long as this lives. What lies on it (AT-SPI's launcher and registry) is started by the bus.
pub struct SessionBus {
    daemon: Child,
    /// What `DBUS_SESSION_BUS_ADDRESS` is to be.
    pub address: String,
}

impl SessionBus {
    /// Starts one. The windows' X server is that of `display`.
    ///
    /// # Errors
    /// If there is no `dbus-daemon`.
    pub fn start(display: Option<&str>) -> Result<Self> {
        let mut command = Command::new("dbus-daemon");
        command
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(display) = display {
            command.env("DISPLAY", display);
        }
        let mut daemon = (command.spawn())
            .context("dbus-daemon can't be started: apt-get install dbus at-spi2-core")?;
        let mut line = String::new();
        if let Some(output) = daemon.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let bus = Self {
            daemon,
            address: line.trim().to_owned(),
        };
        ensure!(
            !bus.address.is_empty(),
            "dbus-daemon ended before it gave an address"
        );
        Ok(bus)
    }
}

impl Drop for SessionBus {
    fn drop(&mut self) {
        // Nothing is lost if it has ended by itself.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// An object on the bus: who has it, and where.
type Place = (String, OwnedObjectPath);

/// Something that a screen reader can read.
#[derive(Clone, Debug)]
pub struct Object {
    place: Place,
    pub name: String,
    /// AT-SPI's number of what it is.
    pub role: u32,
    pub description: String,
    /// What it offers beside being read, such as [`VALUE`].
    interfaces: Vec<String>,
}

impl Object {
    /// Whether it has a number that can be read and set.
    pub fn has_value(&self) -> bool {
        self.interfaces.iter().any(|i| i == VALUE)
    }

    /// Whether it can be pressed.
    pub fn has_action(&self) -> bool {
        self.interfaces.iter().any(|i| i == ACTION)
    }
}

/// A screen reader without a voice.
pub struct Reader {
    bus: Connection,
}

impl Reader {
    /// Says on the session bus at `address` that somebody reads, and goes to the bus of those who do.
    ///
    /// # Errors
    /// If AT-SPI is not installed.
    pub fn new(address: &str) -> Result<Self> {
        block_on(async {
            let session = Builder::address(address)?.build().await?;
            let (bus, path) = ("org.a11y.Bus", "/org/a11y/bus");
            for property in ["IsEnabled", "ScreenReaderEnabled"] {
                let set = ("org.a11y.Status", property, Value::from(true));
                let properties = Some(PROPERTIES);
                session
                    .call_method(Some(bus), path, properties, "Set", &set)
                    .await
                    .context("AT-SPI doesn't answer: apt-get install at-spi2-core")?;
            }
            let reply = session
                .call_method(Some(bus), path, Some(bus), "GetAddress", &())
                .await?;
            let address: String = reply.body().deserialize()?;
            let bus = Builder::address(address.as_str())?.build().await?;
            Ok(Self { bus })
        })
    }

    /// Calls a method without arguments.
    async fn ask(&self, (who, path): &Place, interface: &str, method: &str) -> Result<Message> {
        let (who, interface) = (Some(who.as_str()), Some(interface));
        let reply = self.bus.call_method(who, path, interface, method, &());
        Ok(reply.await?)
    }

    async fn property(&self, of: &Place, interface: &str, name: &str) -> Result<OwnedValue> {
        let (who, path) = of;
        let (who, properties) = (Some(who.as_str()), Some(PROPERTIES));
        let asked = (interface, name);
        let reply = (self.bus).call_method(who, path, properties, "Get", &asked);
        Ok(reply.await?.body().deserialize()?)
    }

    async fn children(&self, of: &Place) -> Result<Vec<Place>> {
        let reply = self.ask(of, ACCESSIBLE, "GetChildren").await?;
        Ok(reply.body().deserialize()?)
    }

    async fn object(&self, place: Place) -> Result<Object> {
        let text = async |name| -> Result<String> {
            let value = self.property(&place, ACCESSIBLE, name).await?;
            Ok(String::try_from(value)?)
        };
        let (name, description) = (text("Name").await?, text("Description").await?);
        let role = self.ask(&place, ACCESSIBLE, "GetRole").await?;
        let role = role.body().deserialize()?;
        let interfaces = self.ask(&place, ACCESSIBLE, "GetInterfaces").await?;
        let interfaces = interfaces.body().deserialize()?;
        Ok(Object {
            place,
            name,
            role,
            description,
            interfaces,
        })
    }

    /// The windows of every program that is read.
    async fn windows(&self) -> Result<Vec<Place>> {
        let root = (REGISTRY.to_owned(), OwnedObjectPath::try_from(ROOT)?);
        let mut windows = Vec::new();
        for program in self.children(&root).await? {
            // A program may go while it is asked.
            windows.extend(self.children(&program).await.unwrap_or_default());
        }
        Ok(windows)
    }

    /// Waits until `count` windows can be read, while `meanwhile` keeps the host going.
    ///
    /// # Errors
    /// If that doesn't come.
    pub fn wait_for_windows(&self, count: usize, mut meanwhile: impl FnMut()) -> Result<()> {
        let began = Instant::now();
        loop {
            let now = block_on(self.windows())?.len();
            if now == count {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!("a screen reader sees {now} windows, not {count}");
            }
            meanwhile();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many objects of a window that was closed, as [`Reader::walk`] found them, are still there.
    pub fn left(&self, objects: &[Object]) -> usize {
        // Not asked what it is: an object whose window is gone can stay and say only that.
        let there = |object: &&Object| {
            let describe = self.ask(&object.place, INTROSPECTABLE, "Introspect");
            block_on(describe).is_ok()
        };
        objects.iter().filter(there).count()
    }

    /// Every object in every window. What goes while it is looked at is left out.
    ///
    /// # Errors
    /// If the bus fails.
    pub fn walk(&self) -> Result<Vec<Object>> {
        block_on(async {
            let mut ahead = self.windows().await?;
            let mut all = Vec::new();
            while let Some(place) = ahead.pop()
                && all.len() < MOST
            {
                ahead.extend(self.children(&place).await.unwrap_or_default());
                all.extend(self.object(place).await.ok());
            }
            Ok(all)
        })
    }

    /// Lowest, present and highest value of an object.
    ///
    /// # Errors
    /// If it has none.
    pub fn value(&self, of: &Object) -> Result<[f64; 3]> {
        block_on(async {
            let mut all = [0.0; 3];
            let names = ["MinimumValue", "CurrentValue", "MaximumValue"];
            for (value, name) in all.iter_mut().zip(names) {
                *value = f64::try_from(self.property(&of.place, VALUE, name).await?)?;
            }
            Ok(all)
        })
    }

    /// Sets the value of an object.
    ///
    /// # Errors
    /// If it can't be set.
    pub fn set_value(&self, of: &Object, value: f64) -> Result<()> {
        let (who, path) = &of.place;
        let set = (VALUE, "CurrentValue", Value::from(value));
        let (who, properties) = (Some(who.as_str()), Some(PROPERTIES));
        block_on((self.bus).call_method(who, path, properties, "Set", &set))?;
        Ok(())
    }

    /// Presses an object.
    ///
    /// # Errors
    /// If it can't be pressed.
    pub fn press(&self, object: &Object) -> Result<()> {
        let (who, path) = &object.place;
        let (who, action) = (Some(who.as_str()), Some(ACTION));
        let reply = block_on((self.bus).call_method(who, path, action, "DoAction", &0i32))?;
        let done: bool = reply.body().deserialize()?;
        ensure!(done, "{} refused to be pressed", object.name);
        Ok(())
    }
}
